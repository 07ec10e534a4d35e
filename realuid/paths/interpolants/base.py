r"""The path between source and data, and its coefficients.

.. math:: x_t = a(t)\, x_0 + b(t)\, x_1 + g(t)\, z, \qquad z \sim N(0, I)

x0 is the source (noise, or another image), x1 the data. Time is native to each interpolant and runs from `t_source`,
where the source prevails, to `t_data` (a = 0, b = 1, g = 0); it may decrease, as sigma does in EDM.

A schedule is three functions of time; their derivatives are taken by the machine. The third is given as g^2: near the
ends g' diverges (Brownian g = sqrt(t(1-t))) while g g' = (g^2)'/2, which is all that samplers and conversions need,
stays finite.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coefficients:
    """The schedules and their time derivatives at times t; every entry `[B]`, float64."""

    t: Tensor
    a: Tensor
    b: Tensor
    g_squared: Tensor
    a_dot: Tensor
    b_dot: Tensor
    gg_dot: Tensor
    """g g' = (g^2)'/2, finite wherever g^2 is smooth."""

    @property
    def g(self) -> Tensor:
        return self.g_squared.clamp_min(0).sqrt()

    @property
    def g_dot(self) -> Tensor:
        """g' `[B]`: zero where g vanishes identically, infinite at an end where only g vanishes."""
        return torch.where(self.gg_dot == 0, 0.0, self.gg_dot / self.g)

    @property
    def noise_variance(self) -> Tensor:
        """a^2 + g^2 `[B]`, the variance of all noise in x_t if the source is N(0, I)."""
        return self.a**2 + self.g_squared

    @property
    def noise_std(self) -> Tensor:
        """sqrt(a^2 + g^2) `[B]`."""
        return self.noise_variance.sqrt()

    @property
    def sigma(self) -> Tensor:
        """Noise over data sqrt(a^2 + g^2) / b `[B]`, EDM's sigma, for a source N(0, I); infinite where b = 0."""
        return self.noise_std / self.b

    @property
    def snr(self) -> Tensor:
        """1 / sigma^2 `[B]`: zero where there is no data, infinite where there is no noise."""
        return self.b**2 / self.noise_variance

    def twice(self) -> Coefficients:
        """Of a batch that holds every sample twice, one copy of the batch after the other: every entry `[2 B]`."""
        return Coefficients(*(torch.cat([value, value]) for value in vars(self).values()))

    def take(self, rows: slice) -> Coefficients:
        """Of these samples."""
        return Coefficients(*(value[rows] for value in vars(self).values()))


def combine(coefficients: Sequence[Tensor], terms: Sequence[Tensor]) -> Tensor:
    """Sum of c_i x_i, the one place where coefficients of time take the shape and dtype of images.

    Args:
        coefficients: one `[B]` tensor a term, any float dtype.
        terms: tensors `[B, ...]` of one shape.

    Returns:
        `[B, ...]` in the terms' dtype.
    """
    total: Tensor | None = None
    for c, x in zip(coefficients, terms, strict=True):
        part = c.to(x.dtype).view(-1, *(1,) * (x.ndim - 1)) * x
        total = part if total is None else total + part
    if total is None:
        raise ValueError("combine needs at least one term")
    return total


def _slopes(values: Sequence[Tensor], times: Tensor) -> Tensor:
    """d values[i] / d times[i] `[n, B]`, where values[i] `[B]` is a function of times[i] entry by entry."""
    varying = [value for value in values if value.requires_grad]  # the others are constants
    if not varying:
        return torch.zeros_like(times)
    # Sums, for gradients that are given to torch.autograd.grad make it import sympy, which takes a second.
    return torch.autograd.grad([value.sum() for value in varying], times)[0]


MOST_STEPS = 100_000
"""Steps into which anything divides time; a file that asks for more means to keep its reader busy."""


class Interpolant(ABC):
    """Base of all paths: a subclass states `t_source`, `t_data` and the schedules a, b and (if not zero) g^2.

    The schedules take times `[B]` (float64) inside the path and return `[B]`.
    """

    t_source: float = 0.0
    t_data: float = 1.0

    @abstractmethod
    def a(self, t: Tensor) -> Tensor:
        """Coefficient of the source x0."""

    @abstractmethod
    def b(self, t: Tensor) -> Tensor:
        """Coefficient of the data x1."""

    def g_squared(self, t: Tensor) -> Tensor:
        """Squared coefficient of the noise z; zero unless overridden."""
        return torch.zeros_like(t)

    def at(self, t: Tensor) -> Coefficients:
        """Schedules and derivatives at times t `[B]`, computed in float64 on t's device.

        Raises:
            ValueError: if the times are not `[B]`.
        """
        if t.ndim != 1:
            raise ValueError(f"times must be [B], got the shape {list(t.shape)}")
        schedules, t = (self.a, self.b, self.g_squared), t.detach().double()
        with torch.inference_mode(False), torch.enable_grad():
            # Each schedule has times of its own, so that one backward pass gives all slopes.
            times = t.expand(len(schedules), -1).clone().requires_grad_()
            values = [schedule(row) for schedule, row in zip(schedules, times.unbind(), strict=True)]
            a_dot, b_dot, g_squared_dot = _slopes(values, times)
            a, b, g_squared = (value.detach() for value in values)
            return Coefficients(times[0].detach(), a, b, g_squared, a_dot, b_dot, g_squared_dot / 2)

    def time(self, noise_level: Tensor) -> Tensor:
        """Native time of a noise level s in [0, 1], s = 1 the source: t_source + (1 - s)(t_data - t_source)."""
        return self.t_source + (1 - noise_level) * (self.t_data - self.t_source)

    def noise_level(self, t: Tensor) -> Tensor:
        """Noise level `[B]` of native times t `[B]`: the inverse of `time`."""
        return (t - self.t_data) / (self.t_source - self.t_data)

    def sigma_at(self, t: Tensor) -> Tensor:
        """sigma = sqrt(a^2 + g^2) / |b|, noise over data, at times t `[B]`; float64; for a source N(0, I).

        Where two paths have the same sigma, their x_t are the same up to a factor.
        """
        t = t.double()
        return (self.a(t) ** 2 + self.g_squared(t).clamp_min(0)).sqrt() / self.b(t).abs()

    def time_at(self, sigma: Tensor) -> Tensor:
        """Native time `[B]` (float64) of this sigma `[B]`: the inverse of `sigma_at`.

        A sigma outside the path gives the nearest end. Not differentiable.

        Raises:
            ValueError: if sigma does not fall all the way from source to data, so that it has no inverse.
        """
        sigma, (at_source, at_data) = sigma.detach().double(), self._sigma_ends
        with torch.no_grad():
            t = self._invert(sigma)
        t = torch.where(sigma >= at_source, self.t_source, t)
        return torch.where(sigma <= at_data, self.t_data, t)

    def _invert(self, sigma: Tensor) -> Tensor:
        """The time of a sigma inside the path (anything for others); by bisection unless a subclass has a formula."""
        data_side, source_side = torch.full_like(sigma, self.t_data), torch.full_like(sigma, self.t_source)
        for _ in range(64):
            middle = (data_side + source_side) / 2
            noisier = self.sigma_at(middle) > sigma
            data_side, source_side = torch.where(noisier, data_side, middle), torch.where(noisier, middle, source_side)
        return (data_side + source_side) / 2

    @cached_property
    def _sigma_ends(self) -> tuple[float, float]:
        """sigma at the source and at the data end."""
        sigma = self.sigma_at(self.time(torch.linspace(1, 0, 129, dtype=torch.float64)))
        if not bool((sigma[1:] <= sigma[:-1] * (1 + 1e-9) + 1e-12).all()):
            raise ValueError(
                f"noise over data does not fall all the way from source to data on {type(self).__name__}: "
                "it does not determine a time"
            )
        return float(sigma[0]), float(sigma[-1])

    def interpolate(self, k: Coefficients, x0: Tensor, x1: Tensor, z: Tensor | None) -> Tensor:
        """x_t `[B, ...]` from the triple (x0, x1, z); z may be None where g is zero (`needs_z`)."""
        if z is None:
            return combine((k.a, k.b), (x0, x1))
        return combine((k.a, k.b, k.g), (x0, x1, z))

    @cached_property
    def needs_z(self) -> bool:
        """Whether g(t) > 0 somewhere inside the path, so that z has to be drawn."""
        inside = self.time(torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
        return bool((self.g_squared(inside) > 0).any())


def require_positive(name: str, value: float) -> float:
    """The value, if it is a positive finite number; raises ValueError naming the argument."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive, got {value}")
    return value
