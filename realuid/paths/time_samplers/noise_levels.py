"""Time samplers that are stated for the noise level s in [0, 1], s = 1 the source, whatever the path."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers.base import SMALLEST, TimeSampler, check_part
from realuid.utils.expressions import Expression

TOLERANCE = 1e-12
"""Rounding allowed to a formula of noise levels."""


class NoiseLevelTime(TimeSampler):
    """Base of the laws that are stated for the noise level s, whatever the path."""

    @abstractmethod
    def level(self, u: Tensor) -> Tensor:
        """Noise levels `[B]` in [0, 1] at probabilities u `[B]` (float64), monotone in u."""

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return interpolant.time(self.level(u.double()).clamp(0, 1))


class UniformTime(NoiseLevelTime):
    """s ~ U(low, high) on the noise level.

    Args:
        low: smallest noise level, at least 0 (the data).
        high: largest noise level, at most 1 (the source).

    Raises:
        ValueError: unless 0 <= low < high <= 1.
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        check_part(low, high)
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
        quantile: a formula (see `realuid.utils.expressions`) of u, uniform in (0, 1), and n, the standard normal
            variable ndtri(u).

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
