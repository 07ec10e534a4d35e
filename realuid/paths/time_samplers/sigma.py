"""Time samplers that are stated for sigma, the noise over data of a path with a Gaussian source."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers.base import SMALLEST, TimeSampler, check_part


class SigmaTime(TimeSampler):
    """A law of sigma, the noise over data of a path with Gaussian source: EDM's time, and a function of any other's."""

    @abstractmethod
    def sigma(self, u: Tensor) -> Tensor:
        """sigma `[B]` (float64) at probabilities u `[B]`, rising with u."""

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return interpolant.time_at(self.sigma(u))

    def span(self, interpolant: Interpolant) -> Tensor:
        drawn = self.sigma(torch.tensor([SMALLEST, 1 - SMALLEST], dtype=torch.float64))
        ends = torch.tensor([interpolant.t_data, interpolant.t_source], dtype=torch.float64)
        least, most = interpolant.sigma_at(ends).tolist()
        if float(drawn[0]) < least * (1 - 1e-9) or float(drawn[1]) > most * (1 + 1e-9):
            raise ValueError(
                f"{type(self).__name__} draws sigma from {float(drawn[0]):.4g} to {float(drawn[1]):.4g}, outside the "
                f"path of {type(interpolant).__name__} from {least:.4g} to {most:.4g}"
            )
        return super().span(interpolant)


class LogNormalTime(SigmaTime):
    """ln sigma ~ N(mean, std^2), truncated to [low, high] (EDM, Karras et al. 2206.00364, table 1).

    Args:
        mean: P_mean, of ln sigma.
        std: P_std, of ln sigma.
        low: smallest sigma kept.
        high: largest sigma kept.

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

    def sigma(self, u: Tensor) -> Tensor:
        inside = self.first + (self.last - self.first) * u.double()
        return torch.exp(self.mean + self.std * torch.special.ndtri(inside))


class KarrasTime(SigmaTime):
    """Uniform over the index of Karras' noise levels (Karras et al. 2206.00364, eq. 5):

        sigma(i) = (sigma_min^(1/rho) + i (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho,    i ~ U(low, high),

    where the index i runs from 0, the least noise, to 1. SiD draws i from [0, 0.8] (2404.04057, section 5), DMD2 from
    1000 levels between 0.02 and 0.98 (2405.14867).

    Args:
        rho: the larger, the more levels of little noise.
        sigma_min: noise at index 0.
        sigma_max: noise at index 1.
        low: smallest index, at least 0.
        high: largest index, at most 1.
        levels: if given, i = j / (levels - 1) with j uniform over the integers from floor(low levels) to
            floor(high levels), at most levels - 1.

    Raises:
        ValueError: unless rho > 0, 0 < sigma_min < sigma_max, 0 <= low < high <= 1 and levels >= 2.
    """

    def __init__(
        self,
        *,
        rho: float = 7.0,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        low: float = 0.0,
        high: float = 1.0,
        levels: int | None = None,
    ) -> None:
        if rho <= 0:
            raise ValueError(f"rho must be positive, got {rho}")
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"0 < sigma_min < sigma_max is needed, got sigma_min = {sigma_min}, sigma_max = {sigma_max}"
            )
        check_part(low, high)
        if levels is not None and levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.rho, self.sigma_min, self.sigma_max = rho, sigma_min, sigma_max
        self.low, self.high, self.levels = low, high, levels

    def sigma(self, u: Tensor) -> Tensor:
        least, most = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = (least + self._index(u.double()) * (most - least)) ** self.rho
        return sigma.clamp(self.sigma_min, self.sigma_max)  # the powers round

    def _index(self, u: Tensor) -> Tensor:
        if self.levels is None:
            return self.low + (self.high - self.low) * u
        first, end = (math.floor(part * self.levels + 1e-9) for part in (self.low, self.high))
        last = min(end, self.levels - 1)
        return torch.floor(first + (last + 1 - first) * u).clamp(max=last) / (self.levels - 1)
