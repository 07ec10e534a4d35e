"""Scalings that give a network's input and its effective target unit variance, from second moments."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from realuid.paths.interpolants import Coefficients
from realuid.paths.preconditioning.base import Preconditioning, Scalings, bounded_log
from realuid.paths.preconditioning.statistics import PathStatistics
from realuid.paths.targets import Target


class _UnitVariance(Preconditioning):
    """Scalings from second moments; a subclass gives the network's time."""

    unit_variance = True
    statistics: PathStatistics

    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        variance, rows = self.statistics.variance(k), target.rows(k)
        return Scalings(
            c_skip=tuple(self.statistics.covariance(k, row) / variance for row in rows),
            c_out=tuple(self.statistics.residual_variance(k, row).sqrt() for row in rows),
            c_in=variance.rsqrt(),
            c_noise=self.noise(k),
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
        return bounded_log(k.sigma) / 4


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
        return 250 * bounded_log((k.t - self.t_data).abs())
