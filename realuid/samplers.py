"""Many-step sampling of any matching model along its probability-flow ODE dx = E[dx_t/dt | x_t] dt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor

from realuid.interpolants import Interpolant, combine
from realuid.matching import PosteriorMean
from realuid.targets import Velocity

__all__ = ["Euler", "Heun", "KarrasGrid", "UniformGrid"]


class TimeGrid(ABC):
    """Where a sampler evaluates the model."""

    @abstractmethod
    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        """Native times `[steps + 1]`, float64, from t_source to t_data.

        Raises:
            ValueError: if this grid does not suit the path.
        """


class UniformGrid(TimeGrid):
    """Equal steps of native time."""

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        return interpolant.time(torch.linspace(1, 0, steps + 1, dtype=torch.float64))


class KarrasGrid(TimeGrid):
    """sigma_i^(1/rho) equally spaced from sigma_max to sigma_min, then 0 (Karras et al. 2206.00364, eq. 5).

    Args:
        sigma_min: the last positive noise level.
        rho: larger values put more steps near the data.

    Raises:
        ValueError: if `sigma_min` or `rho` is not positive.
    """

    def __init__(self, *, sigma_min: float = 0.002, rho: float = 7.0) -> None:
        if sigma_min <= 0 or rho <= 0:
            raise ValueError(f"sigma_min and rho must be positive, got {sigma_min} and {rho}")
        self.sigma_min, self.rho = sigma_min, rho

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        if not interpolant.t_source > self.sigma_min > interpolant.t_data:
            raise ValueError(
                f"KarrasGrid with sigma_min = {self.sigma_min} does not fit {type(interpolant).__name__}, whose time "
                f"runs from {interpolant.t_source:g} to {interpolant.t_data:g}"
            )
        high, low = interpolant.t_source ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        times = torch.linspace(high, low, steps, dtype=torch.float64) ** self.rho
        return torch.cat([times, torch.tensor([interpolant.t_data], dtype=torch.float64)])


class Sampler(ABC):
    """An algorithm that carries source samples to data samples.

    Args:
        steps: number of steps.
        grid: where they lie in time.

    Raises:
        ValueError: if `steps` is less than one.
    """

    def __init__(self, *, steps: int, grid: TimeGrid) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.steps, self.grid = steps, grid

    def __call__(self, model: PosteriorMean, x0: Tensor, labels: Tensor) -> Tensor:
        """Data samples `[B, C, ...]` from source samples x0 `[B, C, ...]` and labels `[B]`.

        Raises:
            ValueError: as `times`.
        """
        times = self.times(model)
        with torch.no_grad():
            x = combine([model.interpolant.at(times[:1].to(x0.device)).a.expand(len(x0))], [x0])
            return self._integrate(model, x, times.tolist(), labels)

    def times(self, model: PosteriorMean) -> Tensor:
        """The grid's native times `[steps + 1]` for this model.

        Raises:
            ValueError: if the grid does not suit the model's path.
            UndeterminedError: if the model does not determine the velocity on it.
        """
        times = self.grid(model.interpolant, self.steps)
        model.check(Velocity(), times[:-1])
        return times

    @abstractmethod
    def _integrate(self, model: PosteriorMean, x: Tensor, times: list[float], labels: Tensor) -> Tensor: ...

    @property
    def name(self) -> str:
        """How the sampler is named beside a figure, for instance `Euler-50 KarrasGrid(sigma_min=0.002, rho=7.0)`."""
        settings = ", ".join(f"{name}={value}" for name, value in vars(self.grid).items())
        return f"{type(self).__name__}-{self.steps} {type(self.grid).__name__}({settings})"


def _velocity(model: PosteriorMean, x: Tensor, t: float, labels: Tensor) -> Tensor:
    return model.predict(x, torch.full((len(x),), t, dtype=torch.float64, device=x.device), labels, Velocity())


class Euler(Sampler):
    """First order: one evaluation a step."""

    def _integrate(self, model: PosteriorMean, x: Tensor, times: list[float], labels: Tensor) -> Tensor:
        for t, s in pairwise(times):
            x = x + (s - t) * _velocity(model, x, t, labels)
        return x


class Heun(Sampler):
    """Second order: two evaluations a step, one in the last, which would need the model at the data end
    (Karras et al. 2206.00364, algorithm 1)."""

    def _integrate(self, model: PosteriorMean, x: Tensor, times: list[float], labels: Tensor) -> Tensor:
        for t, s in pairwise(times):
            v = _velocity(model, x, t, labels)
            y = x + (s - t) * v
            if s != times[-1]:
                y = x + (s - t) * (v + _velocity(model, y, s, labels)) / 2
            x = y
        return x
