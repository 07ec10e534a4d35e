r"""Interpolants: the path between source and data.

.. math:: x_t = a(t)\, x_0 + b(t)\, x_1 + g(t)\, z, \qquad z \sim N(0, I)

x0 is the source (noise, or another image), x1 the data. Time is native to each interpolant and runs from `t_source`,
where the source prevails, to `t_data` (a = 0, b = 1, g = 0); it may decrease, as sigma does in EDM.

A schedule is three functions of time; their derivatives are taken by the machine. The third is given as g^2: near the
ends g' diverges (Brownian g = sqrt(t(1-t))) while g g' = (g^2)'/2, which is all that samplers and conversions need,
stays finite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["BrownianInterpolant", "EDMInterpolant", "LinearInterpolant"]


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


def _derivative(value: Tensor, t: Tensor) -> Tensor:
    """d value / dt `[B]`, where value `[B]` is a function of t entry by entry."""
    if not value.requires_grad:  # a constant
        return torch.zeros_like(t)
    return torch.autograd.grad(value.sum(), t)[0]


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
        """Squared coefficient of the latent noise z; zero unless overridden."""
        return torch.zeros_like(t)

    def at(self, t: Tensor) -> Coefficients:
        """Schedules and derivatives at times t `[B]`, computed in float64 on t's device."""
        with torch.enable_grad():
            t = t.detach().double().requires_grad_()
            values = [schedule(t) for schedule in (self.a, self.b, self.g_squared)]
            slopes = [_derivative(value, t) for value in values]
        a, b, g_squared = (value.detach() for value in values)
        a_dot, b_dot, g_squared_dot = slopes
        return Coefficients(t.detach(), a, b, g_squared, a_dot, b_dot, g_squared_dot / 2)

    def time(self, noise_level: Tensor) -> Tensor:
        """Native time of a noise level s in [0, 1], s = 1 the source: t_source + (1 - s)(t_data - t_source)."""
        return self.t_source + (1 - noise_level) * (self.t_data - self.t_source)

    def draw(self, k: Coefficients, x0: Tensor, x1: Tensor, z: Tensor | None) -> Tensor:
        """x_t `[B, ...]` from the triple (x0, x1, z); z may be None where g is zero (`needs_latent`)."""
        if z is None:
            return combine((k.a, k.b), (x0, x1))
        return combine((k.a, k.b, k.g), (x0, x1, z))

    @cached_property
    def needs_latent(self) -> bool:
        """Whether g(t) > 0 somewhere inside the path, so that a latent z has to be drawn."""
        inside = self.time(torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
        return bool((self.g_squared(inside) > 0).any())


class LinearInterpolant(Interpolant):
    """Flow matching / rectified flow: x_t = (1 - t) x0 + t x1 (Lipman et al. 2210.02747; Liu et al. 2209.03003)."""

    def a(self, t: Tensor) -> Tensor:
        return 1 - t

    def b(self, t: Tensor) -> Tensor:
        return t


class EDMInterpolant(Interpolant):
    """Variance exploding with time = sigma: x = x1 + sigma x0, from `sigma_max` down to 0 (Karras et al. 2206.00364).

    Args:
        sigma_max: noise level of the source, in units of the data's pixel values.

    Raises:
        ValueError: if `sigma_max` is not positive.
    """

    t_data = 0.0

    def __init__(self, *, sigma_max: float = 80.0) -> None:
        if sigma_max <= 0:
            raise ValueError(f"sigma_max must be positive, got {sigma_max}")
        self.t_source = sigma_max

    def a(self, t: Tensor) -> Tensor:
        return t

    def b(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class BrownianInterpolant(Interpolant):
    """x_t = (1 - t) x0 + t x1 + scale sqrt(t (1 - t)) z.

    With a Gaussian source this is the two-sided stochastic interpolant (Albergo et al. 2303.08797, their gamma =
    sqrt(2 t (1 - t)) is scale = sqrt(2)); with paired data it is the Brownian bridge of bridge matching.

    Args:
        scale: standard deviation of the bridge relative to sqrt(t (1 - t)).

    Raises:
        ValueError: if `scale` is not positive (use LinearInterpolant for zero).
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}; without latent noise use LinearInterpolant")
        self.scale = scale

    def a(self, t: Tensor) -> Tensor:
        return 1 - t

    def b(self, t: Tensor) -> Tensor:
        return t

    def g_squared(self, t: Tensor) -> Tensor:
        return self.scale**2 * t * (1 - t)
