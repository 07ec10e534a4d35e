r"""Samplers that add noise on the way,

.. math:: dx = (v \pm \varepsilon\, \nabla \log p_t)\, dt + \sqrt{2 \varepsilon\, |dt|}\; \xi

(plus where time runs from source to data as numbers grow, minus otherwise). For any diffusion eps(t) >= 0 the samples
have the law of x_t at every t (Albergo et al. 2303.08797, corollary 2.18).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.models.matching import PosteriorMean
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.targets import Row, Target, Velocity
from realuid.samplers.base import Sampler, Trajectory
from realuid.samplers.ode import heun_step
from realuid.samplers.time_grids import TimeGrid
from realuid.utils.expressions import Expression


def _direction(interpolant: Interpolant) -> float:
    """+1 where time grows from source to data, -1 where it falls."""
    return math.copysign(1.0, interpolant.t_data - interpolant.t_source)


class Diffusion(ABC):
    """eps(t) >= 0, how much noise is added."""

    @abstractmethod
    def __call__(self, k: Coefficients, direction: float) -> Tensor:
        """eps `[B]`, float64; `direction` is +1 where time grows from source to data, else -1."""


@dataclass(frozen=True)
class NaturalDiffusion(Diffusion):
    """The bridge's own: eps = g g' - g^2 a'/a (times the direction), for which the drift is a function of x_t and
    E[x1] alone (`ForwardDrift`). Without noise z it is zero: the probability flow."""

    def __call__(self, k: Coefficients, direction: float) -> Tensor:
        return direction * (k.gg_dot - k.g_squared * k.a_dot / k.a)


@dataclass(frozen=True)
class ExpressionDiffusion(Diffusion):
    """eps(t) as a formula of t, a, b and g; see `realuid.utils.expressions`.

    Args:
        epsilon: the formula, for instance "0.5 * a".

    Raises:
        ValueError: if it cannot be read.
    """

    epsilon: str

    def __post_init__(self) -> None:
        self._formula()

    def _formula(self) -> Expression:
        return Expression(self.epsilon, ("t", "a", "b", "g"))

    def __call__(self, k: Coefficients, direction: float) -> Tensor:
        return self._formula()(t=k.t, a=k.a, b=k.b, g=k.g)


@dataclass(frozen=True)
class Drift(Target):
    """v +- eps score, of an SDE with a chosen diffusion."""

    diffusion: Diffusion
    direction: float

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        (velocity,) = Velocity().rows(k)
        (c0, c1, cz), (m0, m1, ms) = velocity
        epsilon = self.direction * self.diffusion(k, self.direction)
        return (Row((c0, c1, cz - epsilon / k.g), (m0, m1, ms - epsilon)),)


class EulerMaruyama(Sampler):
    """Euler's method for the SDE with a chosen diffusion; no noise is added in the last step.

    With `NaturalDiffusion` a bridge can be sampled from a data prediction alone.

    Args:
        steps: number of steps.
        grid: where they lie in time.
        diffusion: eps(t).

    Raises:
        ValueError: if `steps` is less than one.
    """

    def __init__(self, *, steps: int, grid: TimeGrid, diffusion: Diffusion) -> None:
        super().__init__(steps=steps, grid=grid)
        self.diffusion = diffusion

    def target(self, model: PosteriorMean) -> Target:
        return Drift(self.diffusion, _direction(model.interpolant))

    def times(self, model: PosteriorMean) -> Tensor:
        times = super().times(model)
        epsilon = self.diffusion(model.interpolant.at(times[:-1]), _direction(model.interpolant))
        bad = ~(torch.isfinite(epsilon) & (epsilon > -1e-9))
        if bool(bad.any()):
            raise ValueError(
                f"the diffusion of EulerMaruyama must be finite and not negative, {self.diffusion} is "
                f"{float(epsilon[bad][0]):.4g} on {type(model.interpolant).__name__}"
            )
        return times

    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        target, direction = self.target(way.model), _direction(way.interpolant)
        for i, (t, s) in enumerate(way.steps(times)):
            x = x + (s - t) * way.predict(x, t, target)
            if s != times[-1]:
                spread = (2 * abs(s - t) * self.diffusion(way.at(t), direction).clamp_min(0)).sqrt()
                x = x + combine([spread], [way.noise(i)])
        return x


class EDMStochastic(Sampler):
    """EDM's sampler: a little noise added before each Heun step (Karras et al. 2206.00364, algorithm 2).

    Args:
        steps: number of steps.
        grid: where they lie in time.
        S_churn: how much noise is added, 40 for their ImageNet-64 model.
        S_min: noise is added from this sigma
        S_max: up to this one.
        S_noise: standard deviation of what is added.

    Raises:
        ValueError: if `steps` is less than one, `S_churn` negative, or `S_noise` not positive.
    """

    def __init__(
        self,
        *,
        steps: int,
        grid: TimeGrid,
        S_churn: float = 40.0,
        S_min: float = 0.05,
        S_max: float = 50.0,
        S_noise: float = 1.003,
    ) -> None:
        super().__init__(steps=steps, grid=grid)
        if S_churn < 0 or S_noise <= 0:
            raise ValueError(f"S_churn must not be negative and S_noise positive, got {S_churn} and {S_noise}")
        self.S_churn, self.S_min, self.S_max, self.S_noise = S_churn, S_min, S_max, S_noise

    def target(self, model: PosteriorMean) -> Target:
        path = model.interpolant
        k = path.at(path.time(torch.linspace(0, 1, 9, dtype=torch.float64)))
        if not (torch.allclose(k.b, torch.ones_like(k.b)) and torch.allclose(k.noise_std, k.t)):
            raise ValueError(
                f"EDMStochastic is for paths x1 + sigma x0 with time = sigma, not for {type(path).__name__}; "
                "EulerMaruyama serves them all"
            )
        return Velocity()

    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        for i, (t, s) in enumerate(way.steps(times)):
            if self.S_min <= t <= self.S_max and self.S_churn > 0:
                raised = t * (1 + min(self.S_churn / self.steps, math.sqrt(2) - 1))
                x = x + math.sqrt(raised**2 - t**2) * self.S_noise * way.noise(i)
                t = raised
            x = heun_step(way, x, t, s, last=s == times[-1])
        return x
