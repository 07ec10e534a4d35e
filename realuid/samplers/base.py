"""What all samplers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.matching import PosteriorMean
from realuid.paths.conversions import UndeterminedError
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.interpolants.base import MOST_STEPS
from realuid.paths.targets import Target
from realuid.samplers.time_grids import TimeGrid
from realuid.utils.progress import step_done

FreshNoise = Callable[[int], Tensor]
"""The k-th standard normal draw `[B, C, ...]` of the samples at hand; draws of different k are independent."""


class Trajectory:
    """A batch of samples on its way from source to data: a model with the same condition and sources all along.

    Args:
        model: knows the posterior means.
        x0: source samples `[B, C, ...]`.
        condition: of the samples.
        noise: the samples' own randomness.
    """

    def __init__(self, model: PosteriorMean, x0: Tensor, condition: Condition, noise: FreshNoise) -> None:
        self.model, self.x0, self.condition, self.noise = model, x0, condition, noise

    @property
    def interpolant(self) -> Interpolant:
        return self.model.interpolant

    def times(self, t: float) -> Tensor:
        """`[B]`, all t."""
        return torch.full((len(self.x0),), t, dtype=torch.float64, device=self.x0.device)

    def at(self, t: float) -> Coefficients:
        return self.interpolant.at(self.times(t))

    @staticmethod
    def steps(times: Sequence[float]) -> Iterator[tuple[float, float]]:
        """Start and end of each step, which is counted as done when the next one is asked for."""
        for i, step in enumerate(pairwise(times), start=1):
            yield step
            step_done(i, len(times) - 1)

    def predict(self, x: Tensor, t: float, target: Target) -> Tensor:
        """Posterior mean of `target` at x `[B, C, ...]`."""
        return self.model.predict(x, self.times(t), self.condition, target, self.x0)


class Sampler(ABC):
    """An algorithm that carries source samples to data samples.

    Args:
        steps: number of steps.
        grid: where they lie in time.

    Raises:
        ValueError: if `steps` is less than one.
    """

    def __init__(self, *, steps: int, grid: TimeGrid) -> None:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"steps must be at least 1 and at most {MOST_STEPS:,}, got {steps}")
        self.steps, self.grid = steps, grid

    def __call__(self, model: PosteriorMean, x0: Tensor, condition: Condition, noise: FreshNoise) -> Tensor:
        """Data samples `[B, C, ...]`.

        Args:
            model: what to sample.
            x0: source samples `[B, C, ...]`.
            condition: of the samples.
            noise: what is drawn on the way; deterministic samplers draw nothing.

        Raises:
            ValueError: as `times`.
        """
        times = self.times(model).tolist()
        way = Trajectory(model, x0, condition, noise)
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
        """How the sampler is named beside a metric, for instance `Euler-50 KarrasGrid(sigma_min=0.002, rho=7.0)`."""
        own, name = self.settings, f"{type(self).__name__}-{self.steps}"
        return f"{_call(name, own) if own else name} {_call(type(self.grid).__name__, vars(self.grid))}"

    @property
    def settings(self) -> dict[str, object]:
        """What the name shows beside steps and grid."""
        return {name: value for name, value in vars(self).items() if name not in ("steps", "grid")}


def _call(name: str, values: dict[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in values.items())})"
