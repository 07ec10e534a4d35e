"""Samplers along the probability flow dx = E[dx_t/dt | x_t] dt."""

from __future__ import annotations

from torch import Tensor

from realuid.models.matching import PosteriorMean
from realuid.paths.targets import Target, Velocity
from realuid.samplers.base import Sampler, Trajectory


class Euler(Sampler):
    """First order: one evaluation a step."""

    def target(self, model: PosteriorMean) -> Target:
        return Velocity()

    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        for t, s in way.steps(times):
            x = x + (s - t) * way.predict(x, t, Velocity())
        return x


class Heun(Sampler):
    """Second order: two evaluations a step, one in the last, which would need the model at the data end
    (Karras et al. 2206.00364, algorithm 1)."""

    def target(self, model: PosteriorMean) -> Target:
        return Velocity()

    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        for t, s in way.steps(times):
            x = heun_step(way, x, t, s, last=s == times[-1])
        return x


def heun_step(way: Trajectory, x: Tensor, t: float, s: float, *, last: bool) -> Tensor:
    """x at time s from x at time t; `last` steps stay of first order."""
    v = way.predict(x, t, Velocity())
    y = x + (s - t) * v
    return y if last else x + (s - t) * (v + way.predict(y, s, Velocity())) / 2
