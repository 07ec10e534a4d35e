"""Paths written out for tests of weights and scalings, apart from the presets of the library."""

from __future__ import annotations

import math

import torch

from realuid.paths.interpolants import Interpolant


class VPPath(Interpolant):
    """Song et al. 2011.13456 with beta(t) = 0.1 + 19.9 t; time 0 is the data."""

    t_source, t_data = 1.0, 0.0

    def exponent(self, t):
        return 19.9 * t**2 / 2 + 0.1 * t

    def a(self, t):
        return (-torch.expm1(-self.exponent(t))).sqrt()

    def b(self, t):
        return torch.exp(-self.exponent(t) / 2)


class TrigPath(Interpolant):
    """TrigFlow: x_t = cos(t) x1 + sin(t) sigma_data x0 (Lu and Song 2410.11081); time 0 is the data."""

    t_source, t_data = math.pi / 2, 0.0

    def a(self, t):
        return 0.5 * torch.sin(t)

    def b(self, t):
        return torch.cos(t)


class DDBMVEPath(Interpolant):
    """The VE bridge of Zhou et al. 2309.16948 up to T = 80; time 0 is the data."""

    t_source, t_data = 80.0, 0.0

    def a(self, t):
        return t**2 / 80**2

    def b(self, t):
        return 1 - t**2 / 80**2

    def g_squared(self, t):
        return t**2 * (1 - t**2 / 80**2)


class DDBMVPPath(Interpolant):
    """The VP bridge of Zhou et al. 2309.16948, beta_d = 2, beta_min = 0.1; time 0 is the data."""

    t_source, t_data = 1.0, 0.0

    def alpha(self, t):
        return torch.exp(-0.05 * t - 0.5 * t**2)

    def rho_squared(self, t):
        return torch.expm1(0.1 * t + t**2)

    def a(self, t):
        one = torch.ones_like(t)
        return self.alpha(t) / self.alpha(one) * self.rho_squared(t) / self.rho_squared(one)

    def b(self, t):
        one = torch.ones_like(t)
        return self.alpha(t) * (1 - self.rho_squared(t) / self.rho_squared(one))

    def g_squared(self, t):
        return self.alpha(t) * self.rho_squared(t) * self.b(t)


class I2SBPath(Interpolant):
    """Liu et al. 2302.05872 with a continuous beta that is largest in the middle; time 0 is the data."""

    t_source, t_data = 1.0, 0.0
    total = 0.01 + 0.3 * 2 / 3

    def gathered(self, t):
        """sigma_t^2, the integral of beta(t) = 0.01 + 1.2 t (1 - t) from the data."""
        return 0.01 * t + 0.3 * (2 * t**2 - 4 * t**3 / 3)

    def left(self, t):
        """sigmabar_t^2, the integral up to the source; beta is symmetric."""
        return self.gathered(1 - t)

    def a(self, t):
        return self.gathered(t) / (self.gathered(t) + self.left(t))

    def b(self, t):
        return self.left(t) / (self.gathered(t) + self.left(t))

    def g_squared(self, t):
        return self.gathered(t) * self.left(t) / (self.gathered(t) + self.left(t))


class DeterministicI2SBPath(I2SBPath):
    """I2SB's OT-ODE: the mean of the bridge."""

    def g_squared(self, t):
        return torch.zeros_like(t)


class RandomPath(Interpolant):
    """Schedules that nothing but smoothness has shaped."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.c = torch.randn(3, 4, dtype=torch.float64, generator=generator)

    def curve(self, i, t):
        return sum(c * t**power for power, c in enumerate(self.c[i]))

    def a(self, t):
        return self.curve(0, t)

    def b(self, t):
        return self.curve(1, t)

    def g_squared(self, t):
        return self.curve(2, t) ** 2 + 0.1
