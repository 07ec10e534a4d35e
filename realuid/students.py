"""Students: generators that need one evaluation of the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from realuid.interpolants import combine
from realuid.matching import MatchingModel
from realuid.targets import Data

__all__ = ["OneStep"]


class OneStep(nn.Module):
    """x1 = data prediction at x_init = a(t_init) x0, the data term dropped: one step from noise to data.

    For linear flow matching this is x0 + v(x0, 0); for EDM D(sigma x0; sigma) (SiD starts at sigma = 2.5, DMD2 at 80).

    Args:
        model: the matching model whose data prediction is the generator; with the teacher's architecture it starts as
            the teacher.
        time: t_init, native; None for the path's source end.

    Raises:
        UndeterminedError: if the model does not determine the data at t_init.
    """

    def __init__(self, *, model: MatchingModel, time: float | None = None) -> None:
        super().__init__()
        self.model = model
        self.time = model.interpolant.t_source if time is None else time
        model.check(Data(), torch.tensor([self.time], dtype=torch.float64))

    def forward(self, x0: Tensor, labels: Tensor) -> Tensor:
        """Generated data `[B, C, ...]` from source samples x0 `[B, C, ...]` and labels `[B]`."""
        t = torch.full((len(x0),), self.time, dtype=torch.float64, device=x0.device)
        x_init = combine([self.model.interpolant.at(t).a], [x0])
        return self.model.predict(x_init, t, labels, Data())
