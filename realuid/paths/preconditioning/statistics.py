"""Second moments of a path: what scalings of unit variance follow from."""

from __future__ import annotations

import math

from torch import Tensor

from realuid.paths.interpolants import Coefficients
from realuid.paths.targets import Row


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
