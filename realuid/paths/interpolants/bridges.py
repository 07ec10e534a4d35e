"""Bridges: paths with noise z inside and none at the ends, between any two sides."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realuid.paths.interpolants.base import MOST_STEPS, Interpolant, require_positive
from realuid.paths.interpolants.table import Table


class BrownianInterpolant(Interpolant):
    """x_t = (1 - t) x0 + t x1 + scale sqrt(t (1 - t)) z, time from 0 (x0) to 1 (x1).

    With a Gaussian source this is the two-sided stochastic interpolant (Albergo et al. 2303.08797, their gamma =
    sqrt(2 t (1 - t)) is scale = sqrt(2)); with paired data it is the Brownian bridge of bridge matching.

    Args:
        scale: standard deviation of the bridge relative to sqrt(t (1 - t)).

    Raises:
        ValueError: if `scale` is not positive (use LinearInterpolant for zero).
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive, got {scale}; for no noise use LinearInterpolant")
        self.scale = scale

    def a(self, t: Tensor) -> Tensor:
        return 1 - t

    def b(self, t: Tensor) -> Tensor:
        return t

    def g_squared(self, t: Tensor) -> Tensor:
        return self.scale**2 * t * (1 - t)


class I2SBInterpolant(Interpolant):
    """Image-to-image Schroedinger bridge (Liu et al. 2302.05872, eq. 11) with its symmetric schedule of noise.

    With s(t) the integral of beta from 0 to t and S = s(1): a = s/S, b = 1 - s/S, g^2 = s (1 - s/S). sqrt(beta) grows
    linearly up to the middle, as sqrt(0.1) + (sqrt(beta_max) - sqrt(0.1)) t, and falls in the mirror image: the limit
    of the authors' 1000 steps, whose beta begins at 1e-4 a step. Time runs from 1 (x0, the degraded image) to 0 (x1).

    Args:
        beta_max: where sqrt(beta) would arrive at t = 1 if it were not mirrored (the authors' --beta-max).
        steps: of the authors' own table, for their checkpoints: s is then the sum of its betas at their times
            1e-4 + (1 - 1e-4) i / (steps - 1), with monotone cubics between them. None for the limit.

    Raises:
        ValueError: if `beta_max` is not positive, or `steps` is odd or less than two.
    """

    t_source, t_data = 1.0, 0.0

    def __init__(self, *, beta_max: float = 0.3, steps: int | None = None) -> None:
        self.start = math.sqrt(0.1)
        self.slope = math.sqrt(require_positive("beta_max", beta_max)) - self.start
        self.total = 2 * float(self._rising(torch.tensor(0.5, dtype=torch.float64)))
        self.tables: tuple[Table, Table] | None = None
        if steps is not None:
            if not 2 <= steps <= MOST_STEPS or steps % 2:
                raise ValueError(f"steps must be even, at least 2 and at most {MOST_STEPS:,}, got {steps}")
            times, sums = _i2sb_table(steps, beta_max)
            self.total = float(sums[-1])
            self.tables = Table(times, sums), Table(1 - times.flip(0), sums[-1] - sums.flip(0))

    def _rising(self, t: Tensor) -> Tensor:
        """Integral of (start + slope t)^2."""
        return t * (self.start**2 + t * (self.start * self.slope + t * (self.slope**2 / 3)))

    def _sides(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """s and S - s, each exactly 0 at its end."""
        if self.tables is not None:
            gathered, left = self.tables
            return gathered(t), left(1 - t)
        early = t <= 0.5
        smaller = self._rising(torch.where(early, t, 1 - t))
        larger = self.total - smaller
        return torch.where(early, smaller, larger), torch.where(early, larger, smaller)

    def a(self, t: Tensor) -> Tensor:
        return self._sides(t)[0] / self.total

    def b(self, t: Tensor) -> Tensor:
        return self._sides(t)[1] / self.total

    def g_squared(self, t: Tensor) -> Tensor:
        before, after = self._sides(t)
        return before * after / self.total


def _i2sb_table(steps: int, beta_max: float) -> tuple[Tensor, Tensor]:
    """The authors' times, the data end before them, and the sums of their betas there (float64)."""
    rising = torch.linspace(1e-4**0.5, (beta_max / steps) ** 0.5, steps, dtype=torch.float64)[: steps // 2] ** 2
    sums = torch.cat([rising, rising.flip(0)]).cumsum(0)
    times = torch.linspace(1e-4, 1, steps, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, times]), torch.cat([zero, sums])


class DDBMVPInterpolant(Interpolant):
    """Denoising diffusion bridge over the variance preserving process (Zhou et al. 2309.16948, table 1).

    With alpha = exp(-L/2), rho^2 = exp(L) - 1, L = beta_min t + beta_d t^2 / 2, and the index T at t = 1:
    a = (alpha / alpha_T) rho^2 / rho_T^2, b = alpha (1 - rho^2 / rho_T^2), g^2 = alpha^2 rho^2 (1 - rho^2 / rho_T^2).
    Time runs from 1 (x0) to 0 (x1).

    Args:
        beta_min: rate of noising at the data end.
        beta_d: its growth over the path.

    Raises:
        ValueError: if one of them is not positive.
    """

    t_source, t_data = 1.0, 0.0

    def __init__(self, *, beta_min: float = 0.1, beta_d: float = 2.0) -> None:
        self.beta_min = require_positive("beta_min", beta_min)
        self.beta_d = require_positive("beta_d", beta_d)
        self.last = beta_min + beta_d / 2

    def _integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + t * (self.beta_d / 2))

    def _left(self, integral: Tensor) -> Tensor:
        """1 - rho^2 / rho_T^2 = (exp(L_T) - exp(L)) / (exp(L_T) - 1), exactly 0 at the source."""
        return torch.exp(integral) * torch.expm1(self.last - integral) / math.expm1(self.last)

    def a(self, t: Tensor) -> Tensor:
        integral = self._integral(t)
        return torch.exp((self.last - integral) / 2) * torch.expm1(integral) / math.expm1(self.last)

    def b(self, t: Tensor) -> Tensor:
        integral = self._integral(t)
        return torch.exp(-integral / 2) * self._left(integral)

    def g_squared(self, t: Tensor) -> Tensor:
        integral = self._integral(t)
        return -torch.expm1(-integral) * self._left(integral)


class DDBMVEInterpolant(Interpolant):
    """Denoising diffusion bridge over the variance exploding process with time = sigma (Zhou et al. 2309.16948).

    a = t^2 / T^2, b = 1 - t^2 / T^2, g^2 = t^2 (1 - t^2 / T^2); time runs from T = `sigma_max` (x0) to 0 (x1).

    Args:
        sigma_max: T, in units of the data's pixel values.

    Raises:
        ValueError: if `sigma_max` is not positive.
    """

    t_data = 0.0

    def __init__(self, *, sigma_max: float = 80.0) -> None:
        self.t_source = require_positive("sigma_max", sigma_max)

    def a(self, t: Tensor) -> Tensor:
        return (t / self.t_source) ** 2

    def b(self, t: Tensor) -> Tensor:
        return (1 - t / self.t_source) * (1 + t / self.t_source)

    def g_squared(self, t: Tensor) -> Tensor:
        return t**2 * self.b(t)
