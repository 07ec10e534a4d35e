r"""Time samplers t ~ p(t) and weights w(t) of the regression and distillation losses.

A time sampler is an inverse distribution function: it turns u ~ U(0, 1) into a time, so that randomness stays with the
caller, strata come for free and the density is known. Samplers with published parameters live on the noise level
s in [0, 1] (s = 1 is the source) and reach the interpolant's native time by `Interpolant.time`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from realuid.interpolants import Interpolant

__all__ = ["EDMWeight", "LogNormalTime", "LogitNormalTime", "UniformTime", "UnitWeight"]


SMALLEST = 2.0**-40
"""Probabilities are drawn from [SMALLEST, 1 - SMALLEST]."""


class TimeSampler(ABC):
    """A law of times, given by its quantile function."""

    @abstractmethod
    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        """Native times `[B]` (float64) at probabilities u `[B]` in (0, 1), monotone in u."""

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


class UniformTime(TimeSampler):
    """s ~ U(low, high) on the noise level.

    Args:
        low: smallest noise level, at least 0 (the data).
        high: largest noise level, at most 1 (the source).

    Raises:
        ValueError: unless 0 <= low < high <= 1.
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        if not 0 <= low < high <= 1:
            raise ValueError(f"0 <= low < high <= 1 is needed, got low = {low}, high = {high}")
        self.low, self.high = low, high

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return interpolant.time(self.low + (self.high - self.low) * u.double())


class LogitNormalTime(TimeSampler):
    """s = sigmoid(mean + std n), n ~ N(0, 1), on the noise level (Esser et al. 2403.03206, section 3.1).

    Raises:
        ValueError: if `std` is not positive.
    """

    def __init__(self, *, mean: float = 0.0, std: float = 1.0) -> None:
        if std <= 0:
            raise ValueError(f"std must be positive, got {std}")
        self.mean, self.std = mean, std

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return interpolant.time(torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.double())))


class LogNormalTime(TimeSampler):
    """ln t ~ N(mean, std^2) on native time, truncated to [low, high] (EDM, Karras et al. 2206.00364, table 1).

    Args:
        mean: P_mean, of ln sigma.
        std: P_std, of ln sigma.
        low: smallest time kept, in the interpolant's own units.
        high: largest time kept.

    Raises:
        ValueError: if `std` is not positive or not 0 < low < high.
    """

    def __init__(self, *, mean: float = -1.2, std: float = 1.2, low: float = 0.002, high: float = 80.0) -> None:
        if std <= 0:
            raise ValueError(f"std must be positive, got {std}")
        if not 0 < low < high:
            raise ValueError(f"0 < low < high is needed, got low = {low}, high = {high}")
        self.mean, self.std = mean, std
        edges = torch.tensor([low, high], dtype=torch.float64).log().sub(mean).div(std)
        self.first, self.last = torch.special.ndtr(edges).tolist()

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        inside = self.first + (self.last - self.first) * u.double()
        return torch.exp(self.mean + self.std * torch.special.ndtri(inside))


class Weight(ABC):
    """A positive weight w(t) of the squared error."""

    @abstractmethod
    def __call__(self, t: Tensor) -> Tensor:
        """Weights `[B]` (float64) at native times t `[B]`."""


class UnitWeight(Weight):
    """w(t) = 1."""

    def __call__(self, t: Tensor) -> Tensor:
        return torch.ones_like(t, dtype=torch.float64)


class EDMWeight(Weight):
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 for a data target, t = sigma (Karras et al. 2206.00364, table 1).

    Raises:
        ValueError: if `sigma_data` is not positive.
    """

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        if sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.sigma_data = sigma_data

    def __call__(self, t: Tensor) -> Tensor:
        t = t.double()
        return (t**2 + self.sigma_data**2) / (t * self.sigma_data) ** 2
