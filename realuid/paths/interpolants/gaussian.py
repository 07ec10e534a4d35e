"""Paths from a Gaussian source N(0, I), without noise z: flow matching and diffusion.

They are the same up to clock and scale: a point of one is a point of another at the time of equal noise over data,
rescaled by the ratio of their b.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realuid.paths.interpolants.base import Interpolant, require_positive


class LinearInterpolant(Interpolant):
    """Flow matching / rectified flow: x_t = (1 - t) x0 + t x1 (Lipman et al. 2210.02747; Liu et al. 2209.03003)."""

    def a(self, t: Tensor) -> Tensor:
        return 1 - t

    def b(self, t: Tensor) -> Tensor:
        return t

    def _invert(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)


class LipmanInterpolant(Interpolant):
    """Conditional OT path with a floor: x_t = (1 - (1 - sigma_min) t) x0 + t x1 (Lipman et al. 2210.02747, eq. 20).

    Time runs from 0 (x0) to 1 (x1 + sigma_min x0).

    Args:
        sigma_min: noise left at the data end, in units of the data's pixel values.

    Raises:
        ValueError: unless 0 < sigma_min < 1 (use LinearInterpolant for zero).
    """

    def __init__(self, *, sigma_min: float = 1e-4) -> None:
        if not 0 < sigma_min < 1:
            raise ValueError(f"0 < sigma_min < 1 is needed, got {sigma_min}; for zero use LinearInterpolant")
        self.sigma_min = sigma_min

    def a(self, t: Tensor) -> Tensor:
        return (1 - t) + self.sigma_min * t

    def b(self, t: Tensor) -> Tensor:
        return t

    def _invert(self, sigma: Tensor) -> Tensor:
        return 1 / (sigma + (1 - self.sigma_min))


class PolynomialInterpolant(Interpolant):
    """x_t = (1 - t^n) x0 + t^n x1, time from 0 (x0) to 1 (x1) (Lipman et al. 2412.06264).

    Args:
        power: n; 1 is LinearInterpolant. Below 1 the derivatives are infinite at t = 0.

    Raises:
        ValueError: if `power` is not positive.
    """

    def __init__(self, *, power: float) -> None:
        self.power = require_positive("power", power)

    def a(self, t: Tensor) -> Tensor:
        return 1 - t**self.power

    def b(self, t: Tensor) -> Tensor:
        return t**self.power

    def _invert(self, sigma: Tensor) -> Tensor:
        return (1 + sigma) ** (-1 / self.power)


class CosineInterpolant(Interpolant):
    """x_t = cos(pi t / 2) x0 + sin(pi t / 2) x1, time from 0 (x0) to 1 (x1).

    The cosine schedule of diffusion (Nichol & Dhariwal 2102.09672, without offset), the "GVP" path of SiT (Ma et al.
    2401.08740) and the one-sided trigonometric interpolant of Albergo et al. 2303.08797.
    """

    def a(self, t: Tensor) -> Tensor:
        return torch.cos(math.pi / 2 * t)

    def b(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def _invert(self, sigma: Tensor) -> Tensor:
        return torch.atan(1 / sigma) * (2 / math.pi)


class LinearVPInterpolant(Interpolant):
    """x_t = sqrt(1 - t^2) x0 + t x1, time from 0 (x0) to 1 (x1) (Lipman et al. 2412.06264).

    The derivative of a is infinite at the data end.
    """

    def a(self, t: Tensor) -> Tensor:
        return (1 - t).sqrt() * (1 + t).sqrt()

    def b(self, t: Tensor) -> Tensor:
        return t

    def _invert(self, sigma: Tensor) -> Tensor:
        return (1 + sigma**2).rsqrt()


class TrigFlowInterpolant(Interpolant):
    """x_t = sigma_data sin(t) x0 + cos(t) x1, time from pi/2 (sigma_data x0) to 0 (x1) (Lu & Song 2410.11081).

    Args:
        sigma_data: standard deviation of the data; with it the variance of x_t is the same at all times.

    Raises:
        ValueError: if `sigma_data` is not positive.
    """

    t_source = math.pi / 2
    t_data = 0.0

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        self.sigma_data = require_positive("sigma_data", sigma_data)

    def a(self, t: Tensor) -> Tensor:
        return self.sigma_data * torch.sin(t)

    def b(self, t: Tensor) -> Tensor:
        return torch.cos(t)

    def _invert(self, sigma: Tensor) -> Tensor:
        return torch.atan(sigma / self.sigma_data)


class VPInterpolant(Interpolant):
    """Variance preserving: b = exp(-T/2), a = sqrt(1 - exp(-T)), T = beta_min t + (beta_max - beta_min) t^2 / 2.

    T is the integral of beta, linear in t (Song et al. 2011.13456, appendix C). Time runs from 1 (nearly noise: with
    the defaults b = 0.0066 is left of the data) to 0 (x1), where the derivative of a is infinite, for autograd NaN.

    Args:
        beta_min: rate of noising at the data end.
        beta_max: rate of noising at the source end.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max.
    """

    t_source, t_data = 1.0, 0.0

    def __init__(self, *, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        if not 0 < beta_min <= beta_max < math.inf:
            raise ValueError(f"0 < beta_min <= beta_max is needed, got {beta_min} and {beta_max}")
        self.beta_min, self.beta_max = beta_min, beta_max

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + (self.beta_max - self.beta_min) / 2 * t**2

    def a(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).sqrt()

    def b(self, t: Tensor) -> Tensor:
        return torch.exp(-self._integral(t) / 2)

    def _invert(self, sigma: Tensor) -> Tensor:
        integral = torch.log1p(sigma**2)  # the root of the quadratic, written so that nothing cancels
        slope = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral).sqrt()
        return 2 * integral / (self.beta_min + slope)


class VEInterpolant(Interpolant):
    """Variance exploding: x_t = x1 + sigma_min (sigma_max / sigma_min)^t x0 (Song et al. 2011.13456, appendix C).

    Time runs from 1 (sigma_max x0, with the data still added) to 0 (x1 + sigma_min x0).

    Args:
        sigma_min: noise left at the data end, in units of the data's pixel values.
        sigma_max: noise level of the source.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max.
    """

    t_source, t_data = 1.0, 0.0

    def __init__(self, *, sigma_min: float = 0.02, sigma_max: float = 100.0) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(f"0 < sigma_min < sigma_max is needed, got {sigma_min} and {sigma_max}")
        self.sigma_min, self.log_range = sigma_min, math.log(sigma_max / sigma_min)

    def a(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(self.log_range * t)

    def b(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _invert(self, sigma: Tensor) -> Tensor:
        return torch.log(sigma / self.sigma_min) / self.log_range


class EDMInterpolant(Interpolant):
    """Variance exploding with time = sigma: x = x1 + sigma x0, from `sigma_max` down to 0 (Karras et al. 2206.00364).

    Args:
        sigma_max: noise level of the source, in units of the data's pixel values.

    Raises:
        ValueError: if `sigma_max` is not positive.
    """

    t_data = 0.0

    def __init__(self, *, sigma_max: float = 80.0) -> None:
        self.t_source = require_positive("sigma_max", sigma_max)

    def a(self, t: Tensor) -> Tensor:
        return t

    def b(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _invert(self, sigma: Tensor) -> Tensor:
        return sigma
