"""How wrong the teacher of a run is, measured on real data, and how far its student is from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from realuid.distillation.distillation import Distillation
from realuid.distillation.step_inputs import InputSampler, StepInputs
from realuid.distillation.teacher_error import TeacherError, correction_for, fitted_correction, teacher_error
from realuid.jobs import runs
from realuid.losses import Terms
from realuid.models.guidance import GuidedModel
from realuid.models.matching import PosteriorMean
from realuid.training.method import Context
from realuid.training.world import World
from realuid.utils.errors import RunError


def work(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit status."""
    arguments.teacher = True
    model = runs.reopen(arguments)
    trainer = model.trainer
    if not isinstance(trainer.method, Distillation):
        raise RunError("the run trains a teacher alone: name one that distils it")
    trainer.data.open(seed=trainer.seed, device=model.device)
    torch.set_num_threads(trainer.threads or torch.get_num_threads())
    context = trainer.context(World(model.device))
    found = measured(trainer.method, Samples(context, trainer.method, arguments.num))
    print("\n".join(found.lines()))
    return 0


@dataclass(frozen=True)
class Measured:
    """What was found."""

    on_real: dict[str, TeacherError]
    """The teacher's error, by each model of the data."""
    on_generated: TeacherError
    """How far the student is from its teacher."""
    ends_at_its_teacher: bool
    """Whether the run used no real data."""

    @property
    def correction(self) -> float:
        """The r of the rule."""
        return correction_for(max(error.squared for error in self.on_real.values()), self.on_generated.squared)

    def lines(self) -> list[str]:
        """What is printed."""
        loss = next(iter(self.on_real.values())).loss
        lines = [_line("the teacher's loss on real samples", f"{loss:.4g}")]
        for name, error in self.on_real.items():
            lines.append(_line(f"its error, at least, by {name}", f"{error.squared:.4g} ± {error.deviation:.2g}"))
        away = self.on_generated
        lines.append(_line("the student from its teacher, at least", f"{away.squared:.4g} ± {away.deviation:.2g}"))
        if self.ends_at_its_teacher:
            return [*lines, _line("Reflected.correction", f"{self.correction:.2f}")]
        return [*lines, "a run without real data, such as UID, would tell the correction of Reflected"]


def _line(name: str, value: str) -> str:
    return f"{name:<52s} {value}"


def measured(method: Distillation, samples: Samples) -> Measured:
    """The teacher's error by all models that are at hand, and the student's distance to it."""
    on_real = {"an affine correction": _fitted(samples, real=True)}
    teacher = method.teacher.model
    if isinstance(teacher, GuidedModel):
        on_real["its network without guidance"] = teacher_error(samples.half(True, real=True, other=teacher.model))
    return Measured(on_real, _fitted(samples, real=False), not method.uses_real_data)


def _fitted(samples: Samples, *, real: bool) -> TeacherError:
    correction = fitted_correction(samples.half(False, real=real))
    return teacher_error(correction(terms) for terms in samples.half(True, real=real))


class Samples:
    """Real samples, and generated ones of the student, on the path of a distillation, with f*; each counts alike.

    Args:
        context: of the run; its data are open.
        method: the distillation, its teacher loaded.
        count: about how many of either.
    """

    def __init__(self, context: Context, method: Distillation, count: int) -> None:
        self.method, self.context = method, replace(context, parts=1)
        self.inputs = InputSampler(method.teacher.model, method.loss.target, self.context.batch)
        self.student = method.generators()["student"]
        self.batches = -(-count // (2 * self.context.batch))

    def half(self, second: bool, *, real: bool, other: PosteriorMean | None = None) -> Iterator[Terms]:
        """The terms of one half of the samples.

        Args:
            second: which half.
            real: of real samples, or of generated ones.
            other: what is in the place of the fake network; the teacher if None.
        """
        for index in range(second * self.batches, (1 + second) * self.batches):
            yield self._terms(index, real, other)

    @torch.no_grad()
    def _terms(self, index: int, real: bool, other: PosteriorMean | None) -> Terms:
        method, target = self.method, self.method.loss.target
        (drawn,) = self.inputs.draw(self.context, index, index)
        x1 = torch.zeros_like(drawn.x0) if real else self._generated(index, drawn)
        points = self.inputs.points(
            self.context, index, drawn, x1, method.generator_time_sampler, method.generator_weight
        ).parts()[real]
        f_star = points.predicted(method.teacher.model, target)
        fake = f_star if other is None else points.predicted(other, target)
        (terms,) = points.terms(fake, [f_star])
        return replace(terms, weight=torch.ones_like(terms.weight))

    def _generated(self, index: int, drawn: StepInputs) -> Tensor:
        context = self.context

        def noise(k: int) -> Tensor:
            return context.randomness.normal(f"student {k}", index, context.batch, context.shape)

        return self.student(drawn.x0, drawn.condition, noise)
