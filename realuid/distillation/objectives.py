"""The two objectives of a distillation: the fake network's, and the generator's (arXiv 2509.22459, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from realuid.distillation.diagnostics import fake_error, gap_by_time, moments, quartiles
from realuid.distillation.step_inputs import InputSampler, StepInputs
from realuid.distillation.students import Student
from realuid.distillation.teachers import Teacher
from realuid.distillation.updates import Updates
from realuid.losses import DistillationLoss, gap
from realuid.losses.adversarial import Adversary
from realuid.models.matching import MatchingModel, PosteriorMean
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight
from realuid.training.method import Context


class Parts(Protocol):
    """What a distillation is made of, as far as its objectives see it."""

    teacher: Teacher
    student: Student
    fake: PosteriorMean
    loss: DistillationLoss
    time_sampler: TimeSampler
    weight: Weight
    generator_time_sampler: TimeSampler
    generator_weight: Weight
    adversary: Adversary | None
    inputs: InputSampler
    updates: Updates
    times_per_sample: int


class Objectives:
    """What either step descends, computed at the inputs of a step, and the scalars that tell how it goes.

    Args:
        parts: the distillation.
        device: of the steps.
    """

    def __init__(self, parts: Parts, device: torch.device) -> None:
        self.teacher, self.student, self.fake_model = parts.teacher.model, parts.student, parts.fake
        self.loss, self.adversary, self.inputs = parts.loss, parts.adversary, parts.inputs
        self.fake_times = parts.time_sampler, parts.weight
        self.generator_times = parts.generator_time_sampler, parts.generator_weight
        self.updates, self.times_per_sample = parts.updates, parts.times_per_sample
        self._quartiles = quartiles(parts.generator_time_sampler, self.teacher.interpolant, device)

    def loss_at(self, substep: int, batch: int) -> DistillationLoss:
        """The loss at an update, numbered through the run; its weights may depend on the images seen."""
        return self.loss.at(substep // (self.updates.fake_steps + 1) * batch)

    def fake(self, context: Context, substep: int, inputs: StepInputs, x1: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the fake network descends, at generated samples x1, which have no gradient, and real ones."""
        target = self.loss.target
        with torch.no_grad():
            seen = inputs if self.loss.uses_real_data else replace(inputs, real=None)
            points = self.inputs.points(context, substep, seen, x1, *self.fake_times)
            f_star = points.teacher_of_fake_step(self.teacher, self.loss)
        generated, *rest = points.terms(points.predicted(self.fake_model, target), f_star)
        loss = self.loss_at(substep, context.batch).fake_loss(generated, rest[0] if rest else None)
        if self.adversary is not None:
            generated_logits, real_logits = self._logits(context, substep, inputs, x1)
            loss = loss + self.adversary.fake_loss(generated_logits, real_logits)
        scalars = {"fake_loss": loss, "fake_error_generated": fake_error(generated)}
        if inputs.real is not None:
            scalars |= moments(inputs.real[0], "real")
        if rest:
            scalars["fake_error_real"] = fake_error(rest[0])
        return loss, scalars

    def fake_on_empty(self, context: Context, wants_real: bool, generates: bool) -> Tensor:
        """The fake network's loss for counting costs, its samples made or at hand."""
        inputs = self.inputs.empty(context, wants_real)
        with torch.no_grad():
            x1 = self.generated(context, inputs) if generates else torch.zeros_like(inputs.x0)
        return self.fake(context, 0, inputs, x1)[0]

    def generator(self, context: Context, substep: int, inputs: StepInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """What the generator descends, through both networks at its samples: the mean over independent times and noise
        at which the same samples are seen."""
        x1, count = self.generated(context, inputs), self.times_per_sample
        seen = [self._seen_by_networks(context, substep, inputs, x1, _time(n)) for n in range(count)]
        losses, scalars = zip(*seen, strict=True)
        means = {name: _mean([values[name] for values in scalars]) for name in scalars[0]}
        return _mean(losses), means | moments(x1, "generated")

    def _seen_by_networks(
        self, context: Context, substep: int, inputs: StepInputs, x1: Tensor, purpose: str
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's loss at one time a sample, and its scalars."""
        target = self.loss.target
        points = self.inputs.points(context, substep, inputs, x1, *self.generator_times, purpose)
        with torch.set_grad_enabled(self.loss.differentiates_networks):
            f_star, fake = points.predicted(self.teacher, target), points.predicted(self.fake_model, target)
        (terms,) = points.terms(fake, [f_star])
        loss = self.loss_at(substep, context.batch).generator_loss(terms)
        if self.adversary is not None:
            (logits,) = self._logits(context, substep, inputs, x1, purpose)
            loss = loss + self.adversary.generator_loss(logits)
        scalars = {"generator_loss": loss, "gap": gap(terms)}
        return loss, scalars | gap_by_time(terms, points.k.t, self._quartiles)

    def generated(self, context: Context, inputs: StepInputs) -> Tensor:
        """Generated samples x1."""

        def noise(k: int) -> Tensor:
            return context.randomness.normal(f"student {k}", inputs.sample, context.batch, context.shape)

        def uniform() -> Tensor:
            return context.randomness.uniform("student step", inputs.sample, context.batch)

        return self.student.trained_on(inputs.x0, inputs.condition, noise, uniform)

    def _logits(
        self, context: Context, substep: int, inputs: StepInputs, x1: Tensor, purpose: str = ""
    ) -> Sequence[Tensor]:
        """What the adversary's head says of generated samples x1 and, if some were drawn, of real ones."""
        assert self.adversary is not None
        assert isinstance(self.fake_model, MatchingModel)
        points = self.inputs.points(
            context, substep, inputs, x1, self.adversary.time_sampler, self.fake_times[1], f"{purpose}adversary "
        )
        features = self.fake_model.encode(points.k, points.x_t, points.condition, points.x0)
        return self.adversary.head(features).split(points.sizes)


def _time(number: int) -> str:
    """Purpose of the draws of one of the times at which samples are seen."""
    return f"time {number} " if number else ""


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean()
