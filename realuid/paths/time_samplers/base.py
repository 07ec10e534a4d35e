r"""What every time sampler is: an inverse distribution function.

It turns u ~ U(0, 1) into a time. So randomness stays with the caller, strata come for free, and the density is known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants import Interpolant

SMALLEST = 2.0**-40
"""Probabilities are drawn from [SMALLEST, 1 - SMALLEST]."""


class TimeSampler(ABC):
    """A law of times, given by its quantile function."""

    @abstractmethod
    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        """Native times `[B]` (float64) at probabilities u `[B]` in (0, 1), monotone in u (constant in steps where the
        law is discrete)."""

    def span(self, interpolant: Interpolant) -> Tensor:
        """Quantiles `[33]` over all that can be drawn: where a conversion used in a loss must be well defined.

        Raises:
            ValueError: if times lie outside the path.
        """
        times = self.quantile(torch.linspace(SMALLEST, 1 - SMALLEST, 33, dtype=torch.float64), interpolant)
        low, high = sorted((interpolant.t_source, interpolant.t_data))
        if not bool(((times >= low) & (times <= high)).all()):
            raise ValueError(
                f"{type(self).__name__} draws times from {float(times.min()):.4g} to {float(times.max()):.4g}, outside "
                f"the path of {type(interpolant).__name__} from {low:.4g} to {high:.4g}"
            )
        return times


def check_part(low: float, high: float) -> None:
    if not 0 <= low < high <= 1:
        raise ValueError(f"0 <= low < high <= 1 is needed, got low = {low}, high = {high}")
