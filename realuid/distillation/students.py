"""Students: generators that need one or a few evaluations of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from realuid.conditions import Condition
from realuid.models.matching import MatchingModel
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.targets import Data
from realuid.samplers.base import FreshNoise
from realuid.samplers.posterior import PosteriorStep
from realuid.utils.limits import check_at_most

__all__ = ["BackwardSimulation", "FewSteps", "OneStep"]

MOST_STEPS = 1000
"""Steps of a student: each holds its activations until the backward pass."""


class Student(nn.Module, ABC):
    """A generator: from a source sample to data, through the data prediction of a matching model.

    Args:
        model: the matching model whose data prediction is the generator; with the teacher's architecture it starts as
            the teacher.
        noise: how many standard normal images the network is given beside x_t. Where x1 is random given x0 (bridges),
            a student without noise would be a function of x0, and the loss's minimum not the data. Their input
            channels start at zero when the student starts from the teacher.

    Raises:
        ValueError: if `noise` is negative or beyond reason, or the network takes another number of images.
    """

    def __init__(self, *, model: MatchingModel, noise: int = 0) -> None:
        super().__init__()
        if noise < 0:
            raise ValueError(f"noise must be at least 0, got {noise}")
        check_at_most(1000, noise=noise)
        model.check_network(noise, type(self).__name__)
        self.model, self.noise = model, noise
        self._coefficients: dict[tuple[float, int, torch.device], Coefficients] = {}

    times: tuple[float, ...]
    """Native times at which the network is asked, from t_init on."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How the student is named beside a metric."""

    @abstractmethod
    def forward(self, x0: Tensor, condition: Condition, noise: FreshNoise) -> Tensor:
        """Generated data `[B, C, ...]` from source samples x0 `[B, C, ...]`, their condition and fresh noise."""

    def trained_on(self, x0: Tensor, condition: Condition, noise: FreshNoise, uniform: Callable[[], Tensor]) -> Tensor:
        """Generated data of an update: what `forward` gives, unless a student is trained on one of its steps.

        Args:
            x0: see `forward`.
            condition: likewise.
            noise: likewise.
            uniform: draws one number in [0, 1) a sample, `[B]`, whatever is chosen at random.
        """
        return self(x0, condition, noise)

    def _at(self, t: float, like: Tensor) -> Coefficients:
        """The path's coefficients at one time for all samples: always the same ones, so they are kept."""
        key = t, len(like), like.device
        if key not in self._coefficients:
            times = torch.full((len(like),), t, dtype=torch.float64, device=like.device)
            self._coefficients[key] = self.model.interpolant.at(times)
        return self._coefficients[key]

    def _data(
        self, x_t: Tensor, k: Coefficients, x0: Tensor, condition: Condition, noise: FreshNoise, first: int
    ) -> Tensor:
        """E[x1 | x_t]; the network's own noise is numbered from `first`."""
        beside = torch.cat([noise(first + i) for i in range(self.noise)], dim=1) if self.noise else None
        return self.model.predict_at(k, x_t, condition, Data(), x0, beside)


class OneStep(Student):
    """x1 = data prediction at x_init = a(t_init) x0, the data term dropped: one step from noise to data.

    For linear flow matching this is x0 + v(x0, 0); for EDM D(sigma x0; sigma) (SiD starts at sigma = 2.5, DMD2 at 80);
    for bridges the teacher's first guess at the source end (IBMD 2502.01362).

    Args:
        model: see `Student`.
        time: t_init, native; None for the path's source end.
        noise: see `Student`.

    Raises:
        UndeterminedError: if the model does not determine the data at t_init.
        ValueError: if t_init lies outside the path or at its data end, or `noise` is negative.
    """

    def __init__(self, *, model: MatchingModel, time: float | None = None, noise: int = 0) -> None:
        super().__init__(model=model, noise=noise)
        path = model.interpolant
        self.time = path.t_source if time is None else time
        self.times = (self.time,)
        if not 0 < _noise_levels(self.times, path)[0] <= 1:
            raise ValueError(
                f"time = {time} must lie on the path of {type(path).__name__} from {path.t_source:g} to "
                f"{path.t_data:g}, before its end"
            )
        model.check(Data(), torch.tensor(self.times, dtype=torch.float64))

    @property
    def name(self) -> str:
        return "OneStep"

    def forward(self, x0: Tensor, condition: Condition, noise: FreshNoise) -> Tensor:
        k = self._at(self.time, x0)
        return self._data(combine([k.a], [x0]), k, x0, condition, noise, 0)


def _noise_levels(times: Sequence[float], path: Interpolant) -> list[float]:
    return path.noise_level(torch.tensor(times, dtype=torch.float64)).tolist()


class FewSteps(Student):
    """Several data predictions, between which the sample is put back on the path with fresh noise (consistency models'
    multistep sampling, Song et al. 2303.01469, algorithm 1; for bridges IBMD 2502.01362, section 3.4).

    Training differentiates through all steps.

    Args:
        model: see `Student`.
        times: native times of the steps, from t_init towards the data.
        redraw: share of the variance of the noise that is drawn anew between two steps; see `Posterior`.
        noise: see `Student`.

    Raises:
        UndeterminedError: if the model does not determine the data at these times.
        ValueError: if there are fewer than two times, they do not run towards the data, or `redraw` leaves [0, 1].
    """

    def __init__(self, *, model: MatchingModel, times: Sequence[float], redraw: float = 1.0, noise: int = 0) -> None:
        super().__init__(model=model, noise=noise)
        path = model.interpolant
        check_at_most(MOST_STEPS, **{"the number of times": len(times)})
        levels = _noise_levels(times, path)
        if len(times) < 2 or levels != sorted(set(levels), reverse=True) or not (levels[-1] > 0 and levels[0] <= 1):
            raise ValueError(
                f"times must be two or more, inside the path from {path.t_source:g} to {path.t_data:g} and running "
                f"towards the data, got {list(times)}"
            )
        self.times = tuple(times)
        known = model.source_conditioned or model.coupling.keeps_source
        self.step = PosteriorStep(model.coupling, redraw, knows_source=known)
        if self.step.needs_source:
            raise ValueError("FewSteps needs a Gaussian source or pairs: between unpaired images x0 would be lost")
        model.check(Data(), torch.tensor(self.times, dtype=torch.float64))

    @property
    def name(self) -> str:
        return f"FewSteps{self.times}"

    def forward(self, x0: Tensor, condition: Condition, noise: FreshNoise) -> Tensor:
        path = [self._at(t, x0) for t in self.times]
        x, fresh = combine([path[0].a], [x0]), self.noise * len(path)
        for i, k in enumerate(path):
            x1 = self._data(x, k, x0, condition, noise, self.noise * i)
            if i + 1 < len(path):
                x = self.step(k, path[i + 1], x, x0, x1, noise(fresh + i) if self.step.draws else None)
        return x1


class BackwardSimulation(FewSteps):
    """`FewSteps` that costs one differentiated pass to train, whatever the number of steps (DMD2's backward simulation,
    Yin et al. 2405.14867, section 4.5).

    An update sees, of each sample, the data prediction at one of the steps, drawn at random. The steps before it are
    taken without gradients, from the student's own predictions, as they are when it is sampled. Sampling is that of
    `FewSteps`.

    The fake network sees the predictions of all steps together and is not told which step gave one. The loss therefore
    brings their mixture to the data, not each step: errors of two steps that cancel in the mixture stay. `FewSteps`
    has no such freedom, for it trains the last step alone.
    """

    def trained_on(self, x0: Tensor, condition: Condition, noise: FreshNoise, uniform: Callable[[], Tensor]) -> Tensor:
        path = [self._at(t, x0) for t in self.times]
        steps, fresh = len(path), self.noise * len(path)
        points = [combine([path[0].a], [x0])]
        with torch.no_grad():
            for i, (k, following) in enumerate(pairwise(path)):
                x1 = self._data(points[i], k, x0, condition, noise, self.noise * i)
                drawn = noise(fresh + i) if self.step.draws else None
                points.append(self.step(k, following, points[i], x0, x1, drawn))
        chosen, rows = (uniform() * steps).long().clamp(max=steps - 1), torch.arange(len(x0), device=x0.device)
        x_t, times = (torch.stack(of_steps)[chosen, rows] for of_steps in (points, [k.t for k in path]))
        return self._data(x_t, self.model.interpolant.at(times), x0, condition, noise, fresh + steps - 1)
