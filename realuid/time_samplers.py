r"""Time samplers t ~ p(t) of the regression and distillation losses.

A time sampler is an inverse distribution function: it turns u ~ U(0, 1) into a time, so that randomness stays with the
caller, strata come for free and the density is known. Samplers with published parameters live on the noise level
s in [0, 1] (s = 1 is the source) and reach the interpolant's native time by `Interpolant.time`. EDM's live on native
time, there the noise's standard deviation sigma.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from realuid.expressions import Expression
from realuid.interpolants import Interpolant

__all__ = [
    "CosMapTime",
    "ExpressionTime",
    "KarrasTime",
    "LogNormalTime",
    "LogitNormalTime",
    "ModeTime",
    "ShiftedTime",
    "TruncatedTime",
    "UShapedTime",
    "UniformTime",
]


SMALLEST = 2.0**-40
"""Probabilities are drawn from [SMALLEST, 1 - SMALLEST]."""

TOLERANCE = 1e-12
"""Rounding allowed to a formula of noise levels."""


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


class NoiseLevelTime(TimeSampler):
    """Base of the laws that are stated for the noise level s, whatever the path."""

    @abstractmethod
    def level(self, u: Tensor) -> Tensor:
        """Noise levels `[B]` in [0, 1] at probabilities u `[B]` (float64), monotone in u."""

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return interpolant.time(self.level(u.double()).clamp(0, 1))


def noise_level(t: Tensor, interpolant: Interpolant) -> Tensor:
    """Noise levels `[B]` of native times t `[B]`: the inverse of `Interpolant.time`."""
    return (t - interpolant.t_data) / (interpolant.t_source - interpolant.t_data)


class UniformTime(NoiseLevelTime):
    """s ~ U(low, high) on the noise level.

    Args:
        low: smallest noise level, at least 0 (the data).
        high: largest noise level, at most 1 (the source).

    Raises:
        ValueError: unless 0 <= low < high <= 1.
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        _check_part(low, high)
        self.low, self.high = low, high

    def level(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * u


class LogitNormalTime(NoiseLevelTime):
    """s = sigmoid(mean + std n), n ~ N(0, 1), on the noise level (Esser et al. 2403.03206, section 3.1).

    Raises:
        ValueError: if `std` is not positive.
    """

    def __init__(self, *, mean: float = 0.0, std: float = 1.0) -> None:
        if std <= 0:
            raise ValueError(f"std must be positive, got {std}")
        self.mean, self.std = mean, std

    def level(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


class ModeTime(NoiseLevelTime):
    """SD3's law with heavy tails: s = 1 - v - scale (cos^2(pi v / 2) - 1 + v), v ~ U(0, 1) (Esser et al. 2403.03206,
    section 3.1), on the noise level; its density is symmetric about 1/2.

    Args:
        scale: 0 is uniform; positive values favour the middle, negative ones the ends. SD3's choice is 1.29.

    Raises:
        ValueError: unless -1 <= scale <= 2 / (pi - 2) = 1.75; beyond, the map is not monotone.
    """

    def __init__(self, *, scale: float = 1.29) -> None:
        largest = 2 / (math.pi - 2)
        if not -1 <= scale <= largest:
            raise ValueError(
                f"-1 <= scale <= 2 / (pi - 2) = {largest:.4g} is needed, got {scale}: s(u) is not monotone"
            )
        self.scale = scale

    def level(self, u: Tensor) -> Tensor:
        # the published map at v = 1 - u, which increases in u
        return u - self.scale * (torch.sin(math.pi / 2 * u) ** 2 - u)


class CosMapTime(NoiseLevelTime):
    """s = 1 - 1 / (1 + tan(pi u / 2)), of density 2 / (pi - 2 pi s + 2 pi s^2) on the noise level: SD3's CosMap, which
    gives the linear path the log-SNR law of the cosine path (Esser et al. 2403.03206, section 3.1).
    """

    def level(self, u: Tensor) -> Tensor:
        sin, cos = torch.sin(math.pi / 2 * u), torch.cos(math.pi / 2 * u)
        return sin / (sin + cos)


class UShapedTime(NoiseLevelTime):
    """Density proportional to e^(a s) + e^(a (1 - s)) on the noise level: the U-shaped law of 2-rectified
    flow++ (Lee et al. 2405.20320, section 4.1; this form, with a = 4, is that of their code).

    Args:
        a: how strongly the ends are favoured.

    Raises:
        ValueError: unless 0 < a <= 500 (beyond, e^a leaves float64's range).
    """

    def __init__(self, *, a: float = 4.0) -> None:
        if not 0 < a <= 500:
            raise ValueError(f"0 < a <= 500 is needed, got {a}")
        self.a = a

    def level(self, u: Tensor) -> Tensor:
        # the distribution function is 1/2 + sinh(a (s - 1/2)) / (2 sinh(a / 2))
        return 0.5 + torch.asinh((2 * u - 1) * math.sinh(self.a / 2)) / self.a


class ExpressionTime(NoiseLevelTime):
    """The noise level as a formula, such as `"sigmoid(0.5 + 1.2 * n)"` or `"u**2"`.

    Args:
        quantile: a formula (see `realuid.expressions`) of u, uniform in (0, 1), and n, the standard normal variable
            ndtri(u).

    Raises:
        ValueError: if the formula does not parse, or is not finite, not within [0, 1] or not monotone in u at some of
            4096 evenly spaced u and 128 more towards the two ends.
    """

    def __init__(self, *, quantile: str) -> None:
        self.expression = Expression(quantile, ("u", "n"))
        tail = torch.logspace(math.log10(SMALLEST), -4, 64, dtype=torch.float64)
        u = torch.cat([tail, torch.arange(1, 4097, dtype=torch.float64) / 4097, 1 - tail]).sort().values
        s = self.level(u)
        off = (s - 0.5).abs().nan_to_num(torch.inf)
        worst = int(off.argmax())
        if off[worst] > 0.5 + TOLERANCE:
            raise ValueError(
                f"the noise level must lie in [0, 1], but {quantile!r} is {float(s[worst]):.4g} at "
                f"u = {float(u[worst]):.4g}"
            )
        steps = s.diff()
        turns = torch.minimum((steps > TOLERANCE).cummax(0).values, (steps < -TOLERANCE).cummax(0).values)
        if bool(turns.any()):
            raise ValueError(
                f"the noise level must be monotone in u, but {quantile!r} turns near u = {float(u[1:][turns][0]):.4g}"
            )

    def level(self, u: Tensor) -> Tensor:
        return self.expression(u=u, n=torch.special.ndtri(u))


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
        least, most = interpolant.noise_to_data(ends).tolist()
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
        _check_part(low, high)
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


class ShiftedTime(TimeSampler):
    """s' = shift s / (1 + (shift - 1) s) for the noise level s of any other sampler (Esser et al. 2403.03206,
    section 5.3.2).

    On the linear path this multiplies the ratio of noise to data, s / (1 - s), by `shift`: what SD3 does for larger
    images, with shift = 3 at 1024^2.

    Args:
        base: draws s.
        shift: larger than 1 for more noise, smaller for less.

    Raises:
        ValueError: if `shift` is not positive.
    """

    def __init__(self, *, base: TimeSampler, shift: float) -> None:
        if shift <= 0:
            raise ValueError(f"shift must be positive, got {shift}")
        self.base, self.shift = base, shift

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        s = noise_level(self.base.quantile(u, interpolant), interpolant)
        return interpolant.time(self.shift * s / (1 + (self.shift - 1) * s))


class TruncatedTime(TimeSampler):
    """The law of another sampler, conditioned on noise levels in [low, high].

    Args:
        base: the law to cut.
        low: smallest noise level, at least 0 (the data).
        high: largest noise level, at most 1 (the source).

    Raises:
        ValueError: unless 0 <= low < high <= 1; on the first use on a path, if `base` draws nothing between them.
    """

    def __init__(self, *, base: TimeSampler, low: float = 0.0, high: float = 1.0) -> None:
        _check_part(low, high)
        self.base, self.low, self.high = base, low, high
        self._parts: WeakKeyDictionary[Interpolant, tuple[float, float]] = WeakKeyDictionary()

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        if interpolant not in self._parts:
            self._parts[interpolant] = self._part(interpolant)
        first, last = self._parts[interpolant]
        return self.base.quantile(first + (last - first) * u.double(), interpolant)

    def _part(self, interpolant: Interpolant) -> tuple[float, float]:
        """The base's probabilities between which its noise levels lie in [low, high], by bisection."""

        def level(u: float) -> float:
            t = self.base.quantile(torch.tensor([u], dtype=torch.float64), interpolant)
            return float(noise_level(t, interpolant))

        least, most = SMALLEST, 1 - SMALLEST
        rising = level(most) > level(least)

        def reached(u: float, bound: float, *, strictly: bool) -> bool:
            """Whether, coming from u = 0, the noise level has reached (or strictly passed) the bound at u."""
            s = level(u) if rising else -level(u)
            bound = bound if rising else -bound
            return s > bound if strictly else s >= bound

        def edge(bound: float, *, strictly: bool) -> tuple[float, float]:
            """Neighbouring probabilities before and after the bound is reached; equal if it is so at once or never."""
            if reached(least, bound, strictly=strictly):
                return least, least
            if not reached(most, bound, strictly=strictly):
                return most, most
            before, after = least, most
            while before < (middle := (before + after) / 2) < after:
                before, after = (before, middle) if reached(middle, bound, strictly=strictly) else (middle, after)
            return before, after

        enters, leaves = (self.low, self.high) if rising else (self.high, self.low)
        first, last = edge(enters, strictly=False)[1], edge(leaves, strictly=True)[0]
        if first >= last:
            raise ValueError(
                f"{type(self.base).__name__} draws no noise levels in [{self.low}, {self.high}] on "
                f"{type(interpolant).__name__}"
            )
        return first, last


def _check_part(low: float, high: float) -> None:
    if not 0 <= low < high <= 1:
        raise ValueError(f"0 <= low < high <= 1 is needed, got low = {low}, high = {high}")
