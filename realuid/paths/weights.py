r"""Weights w(t) of the squared errors in the regression and distillation losses, as functions of the path.

A Gaussian path's noise level is sigma = sqrt(a^2 + g^2) / b, the ratio of noise to data in x_t = a x0 + b x1 + g z for
a source x0 ~ N(0, I); EDM's path has sigma = t. Weights that are published for a data prediction say so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants import Coefficients
from realuid.paths.preconditioning import PathStatistics
from realuid.paths.targets import Data
from realuid.utils.expressions import Expression

__all__ = ["DDBMWeight", "EDMWeight", "ExpressionWeight", "MinSNRWeight", "SNRWeight", "UnitWeight"]


class Weight(ABC):
    """A positive weight w(t) of the squared error."""

    @abstractmethod
    def __call__(self, k: Coefficients) -> Tensor:
        """Weights `[B]` (float64) at the times of `k`."""

    def check(self, k: Coefficients) -> None:
        """Makes sure at assembly that the weight can be used at the times of `k`.

        Raises:
            ValueError: naming the first time at which the weight is not finite and positive.
        """
        w = self(k)
        bad = ~(torch.isfinite(w) & (w > 0))
        if bool(bad.any()):
            raise ValueError(
                f"{type(self).__name__} is {float(w[bad][0]):.4g} at time {float(k.t[bad][0]):.4g}: weights must be "
                f"finite and positive"
            )


class UnitWeight(Weight):
    """w(t) = 1: all times count alike."""

    def __call__(self, k: Coefficients) -> Tensor:
        return torch.ones_like(k.t)


class EDMWeight(Weight):
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 for a data target (Karras et al. 2206.00364, table 1).

    DMD2's fake network has the same weight, written 1 / sigma^2 + 1 / sigma_data^2. It is 1 / c_out^2 of
    EDMPreconditioning.

    Args:
        sigma_data: standard deviation of the data's pixels.

    Raises:
        ValueError: if `sigma_data` is not positive.
    """

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        if sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.sigma_data = sigma_data

    def __call__(self, k: Coefficients) -> Tensor:
        return k.snr + 1 / self.sigma_data**2


class SNRWeight(Weight):
    """1 / sigma^2 for a data target: the unweighted loss of a noise prediction (Ho et al. 2006.11239, L_simple, and the
    VP and VE losses of Song et al. 2011.13456)."""

    def __call__(self, k: Coefficients) -> Tensor:
        return k.snr


class MinSNRWeight(Weight):
    """min(1 / sigma^2, gamma) for a data target (Hang et al. 2303.09556).

    Raises:
        ValueError: if `gamma` is not positive.
    """

    def __init__(self, *, gamma: float = 5.0) -> None:
        if gamma <= 0:
            raise ValueError(f"gamma must be positive, got {gamma}")
        self.gamma = gamma

    def __call__(self, k: Coefficients) -> Tensor:
        return k.snr.clamp_max(self.gamma)


class DDBMWeight(Weight):
    """1 / c_out^2 of DDBMPreconditioning, for a data target on a bridge (Zhou et al. 2309.16948).

    Args:
        sigma_data: standard deviation of the data's pixels.
        sigma_source: standard deviation of the source's pixels.
        covariance: of a pixel of the source with the same pixel of its data.

    Raises:
        ValueError: unless the deviations are positive and |covariance| < sigma_source sigma_data.
    """

    def __init__(self, *, sigma_data: float = 0.5, sigma_source: float = 0.5, covariance: float = 0.0) -> None:
        self.statistics = PathStatistics(sigma_data=sigma_data, sigma_source=sigma_source, covariance=covariance)

    def __call__(self, k: Coefficients) -> Tensor:
        (row,) = Data().rows(k)
        return 1 / self.statistics.residual_variance(k, row)


class ExpressionWeight(Weight):
    """A formula of the time t and the path's coefficients a, b and g there, such as `"1 / (a**2 + g**2)"`.

    Args:
        weight: the formula (see `realuid.utils.expressions`).

    Raises:
        ValueError: if the formula does not parse. Whether it is positive is seen by `check`, where the times are known.
    """

    def __init__(self, *, weight: str) -> None:
        self.expression = Expression(weight, ("t", "a", "b", "g"))

    def __call__(self, k: Coefficients) -> Tensor:
        return self.expression(t=k.t, a=k.a, b=k.b, g=k.g)
