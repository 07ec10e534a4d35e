"""Stochastic interpolants (Albergo, Boffi & Vanden-Eijnden 2303.08797): a path, and noise gamma(t) z added to it.

Their gamma vanishes at both ends of the time interval [0, 1]. It is given as gamma^2, whose derivative stays finite
where that of gamma may not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from realuid.paths.interpolants.base import Interpolant, require_positive


class Gamma(ABC):
    """A schedule of the noise z on [0, 1], symmetric in time, zero at both ends.

    Args:
        scale: factor of gamma.

    Raises:
        ValueError: if `scale` is not positive.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        self.scale = require_positive("scale", scale)

    @abstractmethod
    def shape_squared(self, t: Tensor) -> Tensor:
        """(gamma / scale)^2 at times t `[B]`."""

    def squared(self, t: Tensor) -> Tensor:
        """gamma^2 `[B]` at times t `[B]` in [0, 1]."""
        return self.scale**2 * self.shape_squared(t)


class BrownianGamma(Gamma):
    """gamma = scale sqrt(t (1 - t)), that of a Brownian bridge; its derivative is infinite at the ends."""

    def shape_squared(self, t: Tensor) -> Tensor:
        return t * (1 - t)


class QuadraticGamma(Gamma):
    """gamma = scale t (1 - t)."""

    def shape_squared(self, t: Tensor) -> Tensor:
        return (t * (1 - t)) ** 2


class SineSquaredGamma(Gamma):
    """gamma = scale sin(pi t)^2."""

    def shape_squared(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi * t) ** 4


class SigmoidGamma(Gamma):
    """gamma = scale (B(t) - B(0)), B(t) = sigmoid(u + 1) - sigmoid(u - 1), u = steepness (t - 1/2).

    A bump around the middle, lowered so that it ends at zero (the authors' interflow code has steepness 10).

    Args:
        scale: factor of gamma.
        steepness: the larger, the narrower the bump.

    Raises:
        ValueError: if `scale` is not positive, or `steepness` not in (0, 1000].
    """

    def __init__(self, *, scale: float = 1.0, steepness: float = 10.0) -> None:
        super().__init__(scale=scale)
        if not 0 < steepness <= 1000:
            raise ValueError(f"0 < steepness <= 1000 is needed, got {steepness}")
        self.steepness = steepness

    def shape_squared(self, t: Tensor) -> Tensor:
        # sigmoid(u + 1) - sigmoid(u - 1) = sinh(1) / (cosh(1) + cosh(u)): even in u, so exactly zero at both ends
        return (self._bump(t) - self._bump(torch.zeros_like(t))) ** 2

    def _bump(self, t: Tensor) -> Tensor:
        return math.sinh(1) / (math.cosh(1) + torch.cosh(self.steepness * (t - 0.5)))


class TwoSidedInterpolant(Interpolant):
    """x_t = a x0 + b x1 + gamma z: noise added to a path that has none (2303.08797, section 2).

    Time, direction and ends are those of `path`.

    Args:
        path: gives a and b, over the time interval [0, 1] in either direction.
        gamma: the schedule of the noise.

    Raises:
        ValueError: if `path` lives on another time interval or has noise already.
    """

    def __init__(self, *, path: Interpolant, gamma: Gamma) -> None:
        if {path.t_source, path.t_data} != {0.0, 1.0}:
            raise ValueError(
                f"TwoSidedInterpolant needs a path over times 0 to 1; that of {type(path).__name__} runs from "
                f"{path.t_source:g} to {path.t_data:g}"
            )
        if path.needs_z:
            raise ValueError(f"TwoSidedInterpolant needs a path without noise z; {type(path).__name__} has some")
        self.path, self.gamma = path, gamma
        self.t_source, self.t_data = path.t_source, path.t_data

    def a(self, t: Tensor) -> Tensor:
        return self.path.a(t)

    def b(self, t: Tensor) -> Tensor:
        return self.path.b(t)

    def g_squared(self, t: Tensor) -> Tensor:
        return self.gamma.squared(t)


class TrigonometricInterpolant(Interpolant):
    """x_t = sqrt(1 - gamma^2) (cos(pi t / 2) x0 + sin(pi t / 2) x1) + gamma z, from 0 (x0) to 1 (x1).

    Between two sides of unit variance the variance is 1 at all times ("trig" of 2303.08797, section 4).

    Args:
        gamma: the schedule of the noise, below 1.

    Raises:
        ValueError: if gamma reaches 1, where nothing would be left of x0 and x1.
    """

    def __init__(self, *, gamma: Gamma) -> None:
        largest = float(gamma.squared(torch.linspace(0, 1, 257, dtype=torch.float64)).max().sqrt())
        if largest >= 1:
            raise ValueError(f"TrigonometricInterpolant needs gamma < 1; {type(gamma).__name__} reaches {largest:.4g}")
        self.gamma = gamma

    def a(self, t: Tensor) -> Tensor:
        return (1 - self.gamma.squared(t)).sqrt() * torch.cos(math.pi / 2 * t)

    def b(self, t: Tensor) -> Tensor:
        return (1 - self.gamma.squared(t)).sqrt() * torch.sin(math.pi / 2 * t)

    def g_squared(self, t: Tensor) -> Tensor:
        return self.gamma.squared(t)


class EncoderDecoderInterpolant(Interpolant):
    """x0 is turned into noise z up to t = 1/2, and z into x1 from there, from 0 (x0) to 1 (x1).

    a = cos(pi t)^2 up to 1/2 and 0 beyond, b = 0 up to 1/2 and cos(pi t)^2 beyond, gamma = sin(pi t)^2 ("enc-dec" of
    2303.08797, section 4). At t = 1/2 x_t is z alone.
    """

    def a(self, t: Tensor) -> Tensor:
        return torch.where(t <= 0.5, torch.cos(math.pi * t) ** 2, 0.0)

    def b(self, t: Tensor) -> Tensor:
        return torch.where(t > 0.5, torch.cos(math.pi * t) ** 2, 0.0)

    def g_squared(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi * t) ** 4


class MirrorInterpolant(Interpolant):
    """x_t = x1 + gamma z: from the data (t = 0) to the same data (t = 1), noised in between (2303.08797, section 3).

    It serves to learn the score or the denoiser of the data at the noise levels of gamma, and to move samples of the
    data along an SDE. It does not serve to generate: the source x0 has no part in it, at t_source x_t is x1 and not
    a(t_source) x0 = 0, so samplers and one-step students have nothing to start from; and since every noise level occurs
    twice, it has no `time_at`.

    Args:
        gamma: the schedule of the noise.
    """

    def __init__(self, *, gamma: Gamma) -> None:
        self.gamma = gamma

    def a(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def b(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def g_squared(self, t: Tensor) -> Tensor:
        return self.gamma.squared(t)
