r"""Preconditioning: what surrounds a network F,

.. math:: \hat f_i(x, t) = c_{skip,i}(t)\, x + c_{out,i}(t)\, F_i(c_{in}(t)\, x,\ c_{noise}(t))

for every row i of the target. The principle of Karras et al. 2206.00364, appendix B.6, is that the network's input and
the part of the target that is left to it have unit variance, with the least c_out. It asks for nothing but first and
second moments: x_t and the sampled target are linear in (x0, x1, z), so that the scalings of any target on any path
are linear algebra (`PathStatistics`). EDM's and DDBM's published scalings are special cases.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from realuid.interpolants import Coefficients
from realuid.targets import Data, Row, Target

__all__ = [
    "DDBMPreconditioning",
    "EDMPreconditioning",
    "I2SBPreconditioning",
    "IDDPMPreconditioning",
    "NoPreconditioning",
    "UnitVariancePreconditioning",
    "VEPreconditioning",
    "VPPreconditioning",
]

FARTHEST = 1e12
"""Times and noise levels whose logarithm a network is given are kept within [1 / FARTHEST, FARTHEST]: far beyond any
schedule, but the logarithm stays finite at the ends of the path."""


class Scalings(NamedTuple):
    """Every tensor `[B]`, float64."""

    skip: tuple[Tensor, ...]
    """One for every row of the target."""
    out: tuple[Tensor, ...]
    """One for every row of the target."""
    into: Tensor
    noise: Tensor
    """The time that the network is given."""


class Preconditioning(ABC):
    """Scalings of a network's input, output and time."""

    unit_variance: ClassVar[bool]
    """Whether the network's input and its effective target, (target - skip x_t) / out, are claimed to have variance one
    for data and source of the stated moments."""

    @abstractmethod
    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        """Scalings for a network that predicts `target`, at the times of `k`; None where the network is used as it is,
        on x_t and t.

        Raises:
            ValueError: if they are not defined for this target.
        """

    def check(self, k: Coefficients, target: Target) -> None:
        """Makes sure at assembly that the network can be trained at the times of `k`.

        Raises:
            ValueError: naming the first time at which a scaling is not finite, or at which the network's answer would
                count for nothing; or as for a call.
        """
        self.check_finite(k, target)
        if (scalings := self(k, target)) is not None:
            self._refuse(torch.stack(scalings.out).ne(0).all(0), "gives the network no say", k, target)

    def check_finite(self, k: Coefficients, target: Target) -> None:
        """Makes sure at assembly that the network can be asked at the times of `k`.

        Raises:
            ValueError: naming the first time at which a scaling is not finite; or as for a call.
        """
        if (scalings := self(k, target)) is not None:
            all_of_them = torch.stack([*scalings.skip, *scalings.out, scalings.into, scalings.noise])
            self._refuse(all_of_them.isfinite().all(0), "is not finite", k, target)

    def _refuse(self, good: Tensor, what: str, k: Coefficients, target: Target) -> None:
        if not bool(good.all()):
            raise ValueError(f"{type(self).__name__} {what} for {target} at time {float(k.t[~good][0]):.4g}")


class NoPreconditioning(Preconditioning):
    """The network predicts the target itself and is given the native time."""

    unit_variance = False

    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        return None


class PathStatistics:
    """Second moments of x_t and of a sampled target c0 x0 + c1 x1 + cz z, pixel by pixel.

    With u0, u1, uz of mean zero, variance one and uncorrelated, x1 = sigma_data (r u0 + q u1), x0 = sigma_source u0 and
    z = uz; r is the correlation, q = sqrt(1 - r^2). Means of source and data are taken to be zero.

    Args:
        sigma_data: standard deviation of x1.
        sigma_source: standard deviation of x0.
        covariance: of x0 and x1.

    Raises:
        ValueError: unless the deviations are positive and |covariance| < sigma_source sigma_data.
    """

    def __init__(self, *, sigma_data: float, sigma_source: float, covariance: float) -> None:
        for name, value in (("sigma_data", sigma_data), ("sigma_source", sigma_source)):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if abs(covariance) >= sigma_source * sigma_data:
            raise ValueError(
                f"|covariance| < sigma_source sigma_data = {sigma_source * sigma_data:.4g} is needed, got {covariance}"
            )
        self.sigma_data, self.sigma_source = sigma_data, sigma_source
        self.r = covariance / (sigma_source * sigma_data)
        self.q = math.sqrt((1 - self.r) * (1 + self.r))

    def _components(self, c0: Tensor, c1: Tensor, cz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c0 x0 + c1 x1 + cz z in the basis (u0, u1, uz)."""
        return self.sigma_source * c0 + self.sigma_data * self.r * c1, self.sigma_data * self.q * c1, cz

    def variance(self, k: Coefficients) -> Tensor:
        """Var(x_t) `[B]`."""
        x = self._components(k.a, k.b, k.g)
        return x[0] ** 2 + x[1] ** 2 + x[2] ** 2

    def covariance(self, k: Coefficients, row: Row) -> Tensor:
        """Cov(target, x_t) `[B]`."""
        x, c = self._components(k.a, k.b, k.g), self._components(*row.sampled)
        return x[0] * c[0] + x[1] * c[1] + x[2] * c[2]

    def residual_variance(self, k: Coefficients, row: Row) -> Tensor:
        """Var(target) - Cov(target, x_t)^2 / Var(x_t) `[B]`, what x_t leaves open by linear regression.

        Near the ends of the path the two terms are almost equal. By Lagrange's identity their difference is the squared
        cross product of the components over Var(x_t): a sum of squares of 2x2 minors, in which nothing cancels.
        """
        c0, c1, cz = row.sampled
        m01, m0z, m1z = k.a * c1 - k.b * c0, k.a * cz - k.g * c0, k.b * cz - k.g * c1
        squares = (
            (self.sigma_source * self.sigma_data * self.q * m01) ** 2
            + (self.sigma_source * m0z + self.sigma_data * self.r * m1z) ** 2
            + (self.sigma_data * self.q * m1z) ** 2
        )
        return squares / self.variance(k)


class _UnitVariance(Preconditioning):
    """Scalings from second moments; a subclass gives the network's time."""

    unit_variance = True
    statistics: PathStatistics

    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        variance, rows = self.statistics.variance(k), target.rows(k)
        return Scalings(
            skip=tuple(self.statistics.covariance(k, row) / variance for row in rows),
            out=tuple(self.statistics.residual_variance(k, row).sqrt() for row in rows),
            into=variance.rsqrt(),
            noise=self.noise(k),
        )

    @abstractmethod
    def noise(self, k: Coefficients) -> Tensor:
        """The time `[B]` that the network is given."""


class UnitVariancePreconditioning(_UnitVariance):
    """Unit variance for any target on any path: flow matching, interpolants, bridges, stacks.

        into = Var(x_t)^(-1/2),   skip = Cov(target, x_t) / Var(x_t),   out^2 = Var(target) - skip Cov(target, x_t)

    This is the rule of Karras et al. 2206.00364, appendix B.6. A target whose variance is infinite at an end of the
    path (a Score; a Velocity on a Brownian path) has infinite scalings there: `check` refuses such times.

    Args:
        sigma_data: standard deviation of the data's pixels.
        sigma_source: standard deviation of the source's pixels; 1 if it is N(0, I).
        covariance: of a pixel of the source with the same pixel of its data; 0 if they are independent.
        time_scale: the network is given time_scale * t.

    Raises:
        ValueError: unless the deviations are positive and |covariance| < sigma_source sigma_data.
    """

    def __init__(
        self,
        *,
        sigma_data: float = 0.5,
        sigma_source: float = 1.0,
        covariance: float = 0.0,
        time_scale: float = 1.0,
    ) -> None:
        self.statistics = PathStatistics(sigma_data=sigma_data, sigma_source=sigma_source, covariance=covariance)
        self.time_scale = time_scale

    def noise(self, k: Coefficients) -> Tensor:
        return self.time_scale * k.t


class EDMPreconditioning(_UnitVariance):
    """EDM's scalings (Karras et al. 2206.00364, table 1), for a Gaussian source; the network is given ln(sigma) / 4.

    sigma = sqrt(a^2 + g^2) / b, which is t on EDM's path; on any other path of the same sigma the network sees the same
    inputs, so that its data prediction is the same function of x_t / b.

    Args:
        sigma_data: standard deviation of the data's pixels.

    Raises:
        ValueError: if `sigma_data` is not positive.
    """

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        self.statistics = PathStatistics(sigma_data=sigma_data, sigma_source=1.0, covariance=0.0)

    def noise(self, k: Coefficients) -> Tensor:
        return _log(_sigma(k)) / 4


class DDBMPreconditioning(_UnitVariance):
    """DDBM's scalings (Zhou et al. 2309.16948 and their code); the network is given 250 ln t.

    There t is the time from the data end, in the bridge's own units: up to 1 on the VP bridge, up to sigma_max on VE's.

    Args:
        sigma_data: standard deviation of the data's pixels.
        sigma_source: standard deviation of the source's pixels.
        covariance: of a pixel of the source with the same pixel of its data.
        t_data: native time of the path's data end, from which t is counted.

    Raises:
        ValueError: unless the deviations are positive and |covariance| < sigma_source sigma_data.
    """

    def __init__(
        self,
        *,
        sigma_data: float = 0.5,
        sigma_source: float = 0.5,
        covariance: float = 0.0,
        t_data: float = 0.0,
    ) -> None:
        self.statistics = PathStatistics(sigma_data=sigma_data, sigma_source=sigma_source, covariance=covariance)
        self.t_data = t_data

    def noise(self, k: Coefficients) -> Tensor:
        return 250 * _log((k.t - self.t_data).abs())


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
        sigma = _sigma(k)
        exponent = torch.log1p(sigma**2)
        t = 2 * exponent / (self.beta_min + (self.beta_min**2 + 2 * self.beta_d * exponent).sqrt())
        return Scalings(skip=(1 / k.b,), out=(-sigma,), into=1 / (k.b * (1 + sigma**2).sqrt()), noise=999 * t)


class VEPreconditioning(_DataPreconditioning):
    """NCSN++ and the other VE networks of Song et al. 2011.13456, as in Karras et al. 2206.00364, table 1.

    The network predicts minus the noise from x_t / b: D = (x_t + s F) / b with s = sqrt(a^2 + g^2). It is given
    ln(sigma / 2), sigma = s / b.
    """

    def data(self, k: Coefficients) -> Scalings:
        sigma = _sigma(k)
        return Scalings(skip=(1 / k.b,), out=(sigma,), into=1 / k.b, noise=_log(sigma / 2))


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
        self.steps = steps
        abar = [math.sin(math.pi / 2 * j / steps / (c2 + 1)) ** 2 for j in range(steps + 1)]
        levels = [0.0]
        for j in range(steps, 0, -1):
            levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(abar[j - 1] / abar[j], c1) - 1))
        self.rising = torch.tensor(levels, dtype=torch.float64)  # u_M, ..., u_0

    def data(self, k: Coefficients) -> Scalings:
        sigma, rising = _sigma(k), self.rising.to(k.t.device)
        upper = torch.searchsorted(rising, sigma.contiguous()).clamp(1, len(rising) - 1)
        above = rising[upper] - sigma < sigma - rising[upper - 1]
        time = torch.where(above, upper, upper - 1).double() - 1  # the index in `rising` is M - j
        return Scalings(skip=(1 / k.b,), out=(-sigma,), into=1 / (k.b * (1 + sigma**2).sqrt()), noise=time)


class I2SBPreconditioning(_DataPreconditioning):
    """I2SB's D = x_t - sigma_t F, sigma_t^2 the variance that the bridge gathers between the data and t (Liu et al.
    2302.05872, eq. 12). The network is given 1000 t, t the time from the data end.

    With sigmabar_t^2 gathered between t and the source, I2SB's path is a = sigma^2 / (sigma^2 + sigmabar^2), b = 1 - a
    and g^2 = sigma^2 b. So sigma^2 = g^2 / b inside, and at the source end, where both vanish, (g^2)' / b'.

    Args:
        total: sigma_1^2 over the whole bridge, from which sigma^2 = total * a. Needed where the path has no latent
            noise (I2SB's OT-ODE); None takes it from g.
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
        return Scalings(skip=(one,), out=(-self._variance(k).sqrt(),), into=one, noise=noise)

    def _variance(self, k: Coefficients) -> Tensor:
        if self.total is not None:
            return self.total * k.a
        # g^2 = total (1 - b) b gives 2 g g' = total (1 - 2b) b', good for small b, where g^2 / b loses its digits
        near_source = k.b < 0.25
        total = 2 * k.gg_dot / ((1 - 2 * k.b) * k.b_dot)
        return torch.where(near_source, total * k.a, k.g_squared / k.b)


def _sigma(k: Coefficients) -> Tensor:
    """Noise in units of the data `[B]`, for a Gaussian source; infinite where b = 0."""
    return (k.a**2 + k.g_squared).sqrt() / k.b


def _log(x: Tensor) -> Tensor:
    return x.clamp(1 / FARTHEST, FARTHEST).log()
