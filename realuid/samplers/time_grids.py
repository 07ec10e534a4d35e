"""Time grids: where a sampler evaluates the model."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import shifted


class TimeGrid(ABC):
    """Where a sampler evaluates the model."""

    @abstractmethod
    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        """Native times `[steps + 1]`, float64, from t_source to t_data.

        Raises:
            ValueError: if this grid does not suit the path.
        """


class UniformGrid(TimeGrid):
    """Equal steps of native time."""

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        return interpolant.time(torch.linspace(1, 0, steps + 1, dtype=torch.float64))


class ShiftedGrid(TimeGrid):
    """Equal steps of noise level s, mapped to shift s / (1 + (shift - 1) s) (Esser et al. 2403.03206, eq. 23).

    Args:
        shift: above 1 puts more steps near the source, below 1 near the data.

    Raises:
        ValueError: if `shift` is not positive.
    """

    def __init__(self, *, shift: float) -> None:
        if shift <= 0:
            raise ValueError(f"shift must be positive, got {shift}")
        self.shift = shift

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        s = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return interpolant.time(shifted(s, self.shift))


class KarrasGrid(TimeGrid):
    """sigma_i^(1/rho) equally spaced from sigma_max to sigma_min, then 0 (Karras et al. 2206.00364, eq. 5).

    Args:
        sigma_min: the last positive noise level.
        rho: larger values put more steps near the data.

    Raises:
        ValueError: if `sigma_min` or `rho` is not positive.
    """

    def __init__(self, *, sigma_min: float = 0.002, rho: float = 7.0) -> None:
        if sigma_min <= 0 or rho <= 0:
            raise ValueError(f"sigma_min and rho must be positive, got {sigma_min} and {rho}")
        self.sigma_min, self.rho = sigma_min, rho

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        if not interpolant.t_source > self.sigma_min > interpolant.t_data:
            raise ValueError(
                f"KarrasGrid with sigma_min = {self.sigma_min} does not fit {type(interpolant).__name__}, whose time "
                f"runs from {interpolant.t_source:g} to {interpolant.t_data:g}"
            )
        high, low = interpolant.t_source ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        times = torch.linspace(high, low, steps, dtype=torch.float64) ** self.rho
        return torch.cat([times, torch.tensor([interpolant.t_data], dtype=torch.float64)])
