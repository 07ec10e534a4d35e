"""What all samplers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from realuid.conversions import UndeterminedError
from realuid.interpolants import Coefficients, Interpolant, combine
from realuid.matching import PosteriorMean
from realuid.samplers.grids import TimeGrid
from realuid.targets import Target

FreshNoise = Callable[[int], Tensor]
"""The k-th standard normal draw `[B, C, ...]` of the samples at hand; draws of different k are independent."""


class Trajectory:
    """A batch of samples on its way from source to data: a model asked for the same labels and sources all along.

    Args:
        model: knows the posterior means.
        x0: source samples `[B, C, ...]`.
        labels: `[B]`.
        noise: the samples' own randomness.
    """

    def __init__(self, model: PosteriorMean, x0: Tensor, labels: Tensor, noise: FreshNoise) -> None:
        self.model, self.x0, self.labels, self.noise = model, x0, labels, noise

    @property
    def interpolant(self) -> Interpolant:
        return self.model.interpolant

    def times(self, t: float) -> Tensor:
        """`[B]`, all t."""
        return torch.full((len(self.x0),), t, dtype=torch.float64, device=self.x0.device)

    def at(self, t: float) -> Coefficients:
        return self.interpolant.at(self.times(t))

    def predict(self, x: Tensor, t: float, target: Target) -> Tensor:
        """Posterior mean of `target` at x `[B, C, ...]`."""
        return self.model.predict(x, self.times(t), self.labels, target, self.x0)


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

    def __call__(self, model: PosteriorMean, x0: Tensor, labels: Tensor, noise: FreshNoise) -> Tensor:
        """Data samples `[B, C, ...]`.

        Args:
            model: what to sample.
            x0: source samples `[B, C, ...]`.
            labels: class labels `[B]`.
            noise: what is drawn on the way; deterministic samplers draw nothing.

        Raises:
            ValueError: as `times`.
        """
        times = self.times(model).tolist()
        way = Trajectory(model, x0, labels, noise)
        with torch.no_grad():
            return self._integrate(way, combine([way.at(times[0]).a], [x0]), times)

    def times(self, model: PosteriorMean) -> Tensor:
        """The grid's native times `[steps + 1]` for this model.

        Raises:
            ValueError: if sampler or grid do not suit the model's path.
            UndeterminedError: if the model does not determine on it what the sampler needs.
        """
        times = self.grid(model.interpolant, self.steps)
        try:
            model.check(self.target(model), times[:-1])
        except UndeterminedError as error:
            raise UndeterminedError(f"the sampler {type(self).__name__}: {error}") from None
        return times

    @abstractmethod
    def target(self, model: PosteriorMean) -> Target:
        """What the sampler asks of the model.

        Raises:
            ValueError: if the sampler does not suit the model's path.
        """

    @abstractmethod
    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        """From x `[B, C, ...]` at times[0] to the data at times[-1], where the model is never asked."""

    @property
    def name(self) -> str:
        """How the sampler is named beside a figure, for instance `Euler-50 KarrasGrid(sigma_min=0.002, rho=7.0)`."""
        own = {name: value for name, value in vars(self).items() if name not in ("steps", "grid")}
        parts = [
            _settings(f"{type(self).__name__}-{self.steps}", own) if own else f"{type(self).__name__}-{self.steps}"
        ]
        return " ".join([*parts, _settings(type(self.grid).__name__, vars(self.grid))])


def _settings(name: str, values: dict[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in values.items())})"
