"""Scalings that were published for a prediction of the data alone: VP, VE, iDDPM and I2SB."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants import Coefficients
from realuid.paths.interpolants.base import MOST_STEPS
from realuid.paths.preconditioning.base import Preconditioning, Scalings, bounded_log
from realuid.paths.targets import Data, Target


class _DataPreconditioning(Preconditioning):
    """Scalings that were published for a prediction of the data, and mean nothing for another target."""

    unit_variance = False

    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        if not isinstance(target, Data):
            raise ValueError(
                f"{type(self).__name__} predicts Data, not {target}: use UnitVariancePreconditioning or "
                f"NoPreconditioning"
            )
        return self.data(k)

    @abstractmethod
    def data(self, k: Coefficients) -> Scalings:
        """Scalings of a data prediction."""


class VPPreconditioning(_DataPreconditioning):
    """DDPM++ and the other VP networks of Song et al. 2011.13456, as in Karras et al. 2206.00364, table 1.

    The network predicts the noise from an input of unit variance: D = (x_t - s F) / b with s = sqrt(a^2 + g^2). It is
    given 999 t, where t is the time at which the VP process has the noise level sigma = s / b, whatever the path's own
    time: sigma^2 = exp(beta_d t^2 / 2 + beta_min t) - 1.

    Args:
        beta_d: slope of beta(t) = beta_min + beta_d t.
        beta_min: beta(0).

    Raises:
        ValueError: unless both are positive.
    """

    def __init__(self, *, beta_d: float = 19.9, beta_min: float = 0.1) -> None:
        if beta_d <= 0 or beta_min <= 0:
            raise ValueError(f"beta_d and beta_min must be positive, got {beta_d} and {beta_min}")
        self.beta_d, self.beta_min = beta_d, beta_min

    def data(self, k: Coefficients) -> Scalings:
        sigma = k.sigma
        exponent = torch.log1p(sigma**2)
        t = 2 * exponent / (self.beta_min + (self.beta_min**2 + 2 * self.beta_d * exponent).sqrt())
        return Scalings(c_skip=(1 / k.b,), c_out=(-sigma,), c_in=1 / (k.b * (1 + sigma**2).sqrt()), c_noise=999 * t)


class VEPreconditioning(_DataPreconditioning):
    """NCSN++ and the other VE networks of Song et al. 2011.13456, as in Karras et al. 2206.00364, table 1.

    The network predicts minus the noise from x_t / b: D = (x_t + s F) / b with s = sqrt(a^2 + g^2). It is given
    ln(sigma / 2), sigma = s / b.
    """

    def data(self, k: Coefficients) -> Scalings:
        sigma = k.sigma
        return Scalings(c_skip=(1 / k.b,), c_out=(sigma,), c_in=1 / k.b, c_noise=bounded_log(sigma / 2))


class IDDPMPreconditioning(_DataPreconditioning):
    """ADM's and iDDPM's networks as in Karras et al. 2206.00364, table 1.

    The network predicts the noise from an input of unit variance: D = (x_t - s F) / b with s = sqrt(a^2 + g^2). It is
    given `steps` - 1 - j, where u_j is the noise level nearest to sigma = s / b in the table u_M = 0,
    u_{j-1} = sqrt((u_j^2 + 1) / max(abar(j - 1) / abar(j), c1) - 1), abar(j) = sin^2(pi/2 j / (M (c2 + 1))), M = steps.

    Args:
        c1: the least ratio of two abar.
        c2: the offset of the cosine schedule.
        steps: M.

    Raises:
        ValueError: unless all are positive.
    """

    def __init__(self, *, c1: float = 0.001, c2: float = 0.008, steps: int = 1000) -> None:
        if min(c1, c2, steps) <= 0:
            raise ValueError(f"c1, c2 and steps must be positive, got {c1}, {c2} and {steps}")
        if steps > MOST_STEPS:
            raise ValueError(f"steps must be at most {MOST_STEPS:,}, got {steps}")
        self.steps = steps
        abar = [math.sin(math.pi / 2 * j / steps / (c2 + 1)) ** 2 for j in range(steps + 1)]
        levels = [0.0]
        for j in range(steps, 0, -1):
            levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(abar[j - 1] / abar[j], c1) - 1))
        self.rising = torch.tensor(levels, dtype=torch.float64)  # u_M, ..., u_0

    def data(self, k: Coefficients) -> Scalings:
        sigma, rising = k.sigma, self.rising.to(k.t.device)
        upper = torch.searchsorted(rising, sigma.contiguous()).clamp(1, len(rising) - 1)
        above = rising[upper] - sigma < sigma - rising[upper - 1]
        time = torch.where(above, upper, upper - 1).double() - 1  # the index in `rising` is M - j
        return Scalings(c_skip=(1 / k.b,), c_out=(-sigma,), c_in=1 / (k.b * (1 + sigma**2).sqrt()), c_noise=time)


class I2SBPreconditioning(_DataPreconditioning):
    """I2SB's D = x_t - sigma_t F, sigma_t^2 the variance that the bridge gathers between the data and t (Liu et al.
    2302.05872, eq. 12). The network is given 1000 t, t the time from the data end.

    With sigmabar_t^2 gathered between t and the source, I2SB's path is a = sigma^2 / (sigma^2 + sigmabar^2), b = 1 - a
    and g^2 = sigma^2 b. So sigma^2 = g^2 / b inside, and at the source end, where both vanish, (g^2)' / b'.

    Args:
        total: sigma_1^2 over the whole bridge, from which sigma^2 = total * a. Needed where the path has no noise z
            (I2SB's OT-ODE); None takes it from g.
        t_data: native time of the path's data end, from which t is counted.

    Raises:
        ValueError: if `total` is not positive.
    """

    def __init__(self, *, total: float | None = None, t_data: float = 0.0) -> None:
        if total is not None and total <= 0:
            raise ValueError(f"total must be positive, got {total}")
        self.total, self.t_data = total, t_data

    def data(self, k: Coefficients) -> Scalings:
        one = torch.ones_like(k.t)
        noise = 1000 * (k.t - self.t_data).abs()
        return Scalings(c_skip=(one,), c_out=(-self._variance(k).sqrt(),), c_in=one, c_noise=noise)

    def _variance(self, k: Coefficients) -> Tensor:
        if self.total is not None:
            return self.total * k.a
        # g^2 = total (1 - b) b gives 2 g g' = total (1 - 2b) b', good for small b, where g^2 / b loses its digits
        near_source = k.b < 0.25
        total = 2 * k.gg_dot / ((1 - 2 * k.b) * k.b_dot)
        return torch.where(near_source, total * k.a, k.g_squared / k.b)
