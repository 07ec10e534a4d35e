r"""Classifier-free guidance (Ho & Salimans 2207.12598): a model that answers

.. math:: f_{null} + w\, (f_{label} - f_{null}).
"""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.interpolants import Coefficients
from realuid.matching import MatchingModel, PosteriorMean
from realuid.targets import Target

__all__ = ["GuidedModel"]


class GuidedModel(PosteriorMean):
    """A class-conditional model with classifier-free guidance; both branches go through the network in one pass.

    Args:
        model: trained with labels dropped (`TeacherTraining.label_dropout`): its label `classes` means none.
        classes: number of classes; also the label that means none.
        scale: w, guidance scale; 1 is the model itself.
        low: guidance acts at noise levels from here
        high: to here (Kynkäänniemi et al. 2404.07724); all of them by default.

    Raises:
        ValueError: if `classes` is less than one or not the network's, the network has no label that means none, or
            not 0 <= low < high <= 1.
    """

    def __init__(
        self, *, model: MatchingModel, classes: int, scale: float, low: float = 0.0, high: float = 1.0
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"guidance needs classes, got {classes}")
        if not 0 <= low < high <= 1:
            raise ValueError(f"0 <= low < high <= 1 is needed, got low = {low}, high = {high}")
        name = type(model.network).__name__
        if getattr(model.network, "classes", classes) != classes:
            raise ValueError(f"classes = {classes}, but {name}.classes = {model.network.classes}")
        if not getattr(model.network, "null_label", True):
            raise ValueError(
                f"guidance asks for the label {classes}, which means none: bind {name}.null_label = True, and "
                "TeacherTraining.label_dropout for its training"
            )
        self.model, self.classes, self.scale, self.low, self.high = model, classes, scale, low, high
        self.interpolant, self.coupling, self.conditioned = model.interpolant, model.coupling, model.conditioned

    def predict_at(
        self, k: Coefficients, x_t: Tensor, labels: Tensor, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        both = self.model.predict_at(
            k.twice(),
            torch.cat([x_t, x_t]),
            torch.cat([labels, torch.full_like(labels, self.classes)]),
            target,
            None if x0 is None else torch.cat([x0, x0]),
        )
        conditional, null = both.chunk(2)
        path = self.interpolant
        level = (k.t - path.t_data) / (path.t_source - path.t_data)
        scale = torch.where((level >= self.low) & (level <= self.high), self.scale, 1.0).to(x_t.dtype)
        return null + scale.view(-1, *(1,) * (x_t.ndim - 1)) * (conditional - null)

    def check(self, target: Target, times: Tensor) -> None:
        self.model.check(target, times)
