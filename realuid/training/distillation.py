"""Distillation: K steps of the fake network for one of the generator (arXiv 2509.22459, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from realuid.checkpoints import checksum, load_network
from realuid.data.pixels import to_float
from realuid.errors import CheckpointError
from realuid.losses import DistillationLoss, Terms, gap
from realuid.matching import MatchingModel, PosteriorMean
from realuid.students import OneStep
from realuid.teachers import Teacher
from realuid.time_samplers import TimeSampler, Weight
from realuid.training.ema import EMA
from realuid.training.initialisation import initialise
from realuid.training.optimizers import Adam
from realuid.training.procedure import Context, Generator, PathDraws, Procedure, draw_path

__all__ = ["Distillation"]


@dataclass(frozen=True)
class Points:
    """A batch of generated or real samples seen on the path."""

    x_t: Tensor
    t: Tensor
    labels: Tensor
    target: Tensor
    """The sampled target c."""
    weight: Tensor

    def terms(self, fake: Tensor, teacher: Tensor | None = None) -> Terms:
        return Terms(fake=fake, target=self.target, weight=self.weight, teacher=teacher)


class Distillation(Procedure):
    """Distils a teacher into a one-step student. One step is `fake_steps` updates of the fake network and then one of
    the generator; it counts as one batch of images.

    Generated samples are paired with fresh source samples by the teacher's own coupling. Real samples share times and
    noise with the first generated ones of their lane.

    Args:
        teacher: the frozen f*.
        student: the generator.
        fake: the network f that learns the generator's own function; same path as the teacher, any target.
        loss: the min-max objective, written in a target of its own.
        time_sampler: law of the times, shared by the generated and the real part.
        weight: w(t), shared likewise.
        student_optimizer: of the generator.
        fake_optimizer: of the fake network.
        ema: averages of the generator's weights.
        fake_steps: K, updates of the fake network for one of the generator; below 3 tends to be unstable.
        real_batch: real samples in one fake step, at most the batch. Either part is averaged over its own count, so
            that the loss is unbiased for any number; it is ignored by losses that use no real data.
        student_init: where the student starts: `teacher`, `random`, or a checkpoint's path or URL.
        fake_init: where the fake network starts: `random` (from scratch), `teacher` (fine-tuning), or a checkpoint.

    Raises:
        ValueError: if `fake_steps` or `real_batch` is less than one, or times or sampler do not fit the path.
        UndeterminedError: if teacher or fake do not determine the loss's target where times are drawn.
    """

    trained = ("student", "fake")

    def __init__(
        self,
        *,
        teacher: Teacher,
        student: OneStep,
        fake: MatchingModel,
        loss: DistillationLoss,
        time_sampler: TimeSampler,
        weight: Weight,
        student_optimizer: Adam,
        fake_optimizer: Adam,
        ema: EMA,
        fake_steps: int = 5,
        real_batch: int,
        student_init: str = "teacher",
        fake_init: str = "random",
    ) -> None:
        if fake_steps < 1 or real_batch < 1:
            raise ValueError(f"fake_steps and real_batch must be at least 1, got {fake_steps} and {real_batch}")
        self.teacher, self.student, self.fake, self.loss = teacher, student, fake, loss
        self.sampler = teacher.sampler
        self.time_sampler, self.weight = time_sampler, weight
        self.student_optimizer, self.fake_optimizer, self.ema = student_optimizer, fake_optimizer, ema
        self.fake_steps, self.real_batch = fake_steps, real_batch
        self.student_init, self.fake_init = student_init, fake_init
        times = time_sampler.span(teacher.model.interpolant)
        for role, model in (("teacher", teacher.model), ("student", student.model), ("fake", fake)):
            _check_same_path(teacher.model, model, role)
            model.check(loss.target, times)
        self.sampler.times(teacher.model)  # refuses a sampler that prediction or path do not allow

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "fake": self.fake, "teacher": self.teacher.model}

    def start(self, context: Context) -> None:
        self._check_real_batch(context)
        self.teacher.load()
        for role, model, source in (
            ("student", self.student.model, self.student_init),
            ("fake", self.fake, self.fake_init),
        ):
            if source == "random":
                initialise(model, context.randomness.seed, role)
            elif source == "teacher":
                self._start_from_teacher(model)
            else:
                load_network(model.network, source)
        self.to(context)
        self.student_optimizer.attach(self.student.parameters())
        self.fake_optimizer.attach(self.fake.parameters())
        self.ema.attach(self.student)

    def to(self, context: Context) -> None:
        """Puts the networks on the context's device; the rest of `start` needs weights, this does not."""
        self.context = context
        for network in self.networks().values():
            network.to(context.device)
        self.teacher.model.eval().requires_grad_(False)
        lanes = torch.arange(context.batch, device=context.device).view(context.randomness.lanes, -1)
        self._real_rows = lanes[:, : self.real_batch // context.randomness.lanes].flatten()

    def _check_real_batch(self, context: Context) -> None:
        if self.real_batch > context.batch or self.real_batch % context.randomness.lanes:
            raise ValueError(
                f"Distillation.real_batch = {self.real_batch} must be at most the batch of {context.batch} and divide "
                f"into its {context.randomness.lanes} lanes"
            )

    def _start_from_teacher(self, model: MatchingModel) -> None:
        teacher = self.teacher.model
        if not isinstance(teacher, MatchingModel):
            raise ValueError("an exact teacher has no weights to start from: bind student_init and fake_init to random")
        if model.target != teacher.target:
            raise ValueError(f"cannot start from the teacher: it predicts {teacher.target}, this model {model.target}")
        try:
            model.network.load_state_dict(teacher.network.state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()
            raise ValueError(f"cannot start from the teacher, whose network differs: {reason}") from None

    def step(self, index: int) -> dict[str, Tensor]:
        batch, substeps = self.context.batch, self.fake_steps + 1
        metrics: dict[str, Tensor] = {}
        self.fake.train().requires_grad_(True)
        for k in range(self.fake_steps):
            loss = self._fake_loss(index * substeps + k, self._real(index * self.fake_steps + k))
            loss.backward()
            metrics["fake_grad_norm"] = self.fake_optimizer.step(index * batch)
        metrics["fake_loss"] = loss.detach()

        self.fake.eval().requires_grad_(False)
        terms = self._generator_terms(index * substeps + self.fake_steps)
        loss = self.loss.generator_loss(terms)
        loss.backward()
        metrics["generator_grad_norm"] = self.student_optimizer.step(index * batch)
        self.ema.update()
        return metrics | {"generator_loss": loss.detach(), "gap": gap(terms)}

    def _real(self, fake_step: int) -> tuple[Tensor, Tensor] | None:
        """The real images of a fake step in [-1, 1] and their labels, if the loss uses any."""
        if not self.loss.uses_real_data:
            return None
        images, labels = self.context.data.batch(fake_step * self.real_batch, self.real_batch)
        return to_float(images), labels

    def _generate(self, step: int) -> tuple[Tensor, Tensor]:
        """Generated samples x1 and their labels, which follow the data's frequencies."""
        randomness, batch = self.context.randomness, self.context.batch
        labels = randomness.labels("label", step, batch, self.context.frequencies)
        x0 = randomness.normal("generator", step, batch, self.context.shape)
        return self.student(x0, labels), labels

    def _points(self, x1: Tensor, labels: Tensor, draws: PathDraws) -> Points:
        interpolant = self.teacher.model.interpolant
        x0, x1 = self.teacher.model.coupling.pair(draws.x0, x1)
        k = interpolant.at(draws.t)
        return Points(
            x_t=interpolant.draw(k, x0, x1, draws.z),
            t=draws.t,
            labels=labels,
            target=self.loss.target.sample(k, x0, x1, draws.z),
            weight=self.weight(draws.t),
        )

    def _predict(self, model: PosteriorMean, points: list[Points]) -> list[Tensor]:
        """The model's prediction for every batch of points, in one forward pass."""
        prediction = model.predict(
            torch.cat([p.x_t for p in points]),
            torch.cat([p.t for p in points]),
            torch.cat([p.labels for p in points]),
            self.loss.target,
        )
        return list(prediction.split([len(p.t) for p in points]))

    def _fake_loss(self, step: int, real: tuple[Tensor, Tensor] | None) -> Tensor:
        draws = draw_path(self.context, self.teacher.model.interpolant, self.time_sampler, step)
        with torch.no_grad():
            points = [self._points(*self._generate(step), draws)]
            if real is not None:
                points.append(self._points(*real, draws.take(self._real_rows)))
            needs_teacher = self.loss.fake_step_needs_teacher
            teacher = self._predict(self.teacher.model, points) if needs_teacher else [None] * len(points)
        fake = self._predict(self.fake, points)
        generated, *rest = [p.terms(f, f_star) for p, f, f_star in zip(points, fake, teacher, strict=True)]
        return self.loss.fake_loss(generated, rest[0] if rest else None)

    def _generator_terms(self, step: int) -> Terms:
        draws = draw_path(self.context, self.teacher.model.interpolant, self.time_sampler, step)
        points = self._points(*self._generate(step), draws)
        (teacher,), (fake,) = self._predict(self.teacher.model, [points]), self._predict(self.fake, [points])
        return points.terms(fake, teacher)

    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        student = self.ema.averaged(ema)

        @torch.no_grad()
        def one_step(x0: Tensor, labels: Tensor) -> Tensor:
            return student(x0, labels)

        return {
            "student": one_step,
            "teacher": lambda x0, labels: self.sampler(self.teacher.model, x0, labels),
        }

    def sampling(self, role: str) -> dict[str, str | None]:
        if role == "teacher":
            return {"sampler": self.sampler.name, "ema": self.teacher.ema, "weights": checksum(self.teacher.model)}
        weights = checksum(self.ema.averaged())
        return {"sampler": type(self.student).__name__, "ema": self.ema.names[0], "weights": weights}

    def known(self, role: str) -> dict[str, Any]:
        return (self.teacher.summary or {}) if role == "teacher" else {}

    def passes(self, context: Context) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        def fake_step() -> Tensor:
            self.fake.requires_grad_(True)
            images = torch.zeros((self.real_batch, *context.shape), device=context.device)
            labels = torch.zeros(self.real_batch, dtype=torch.int64, device=context.device)
            return self._fake_loss(0, (images, labels) if self.loss.uses_real_data else None)

        def generator_step() -> Tensor:
            self.fake.requires_grad_(False)
            return self.loss.generator_loss(self._generator_terms(0))

        self._check_real_batch(context)
        self.to(context)
        return {"fake": (self.fake_steps, fake_step), "generator": (1, generator_step)}

    def state_dict(self) -> dict:
        return {
            "teacher": checksum(self.teacher.model),
            "student": self.student.state_dict(),
            "fake": self.fake.state_dict(),
            "student_optimizer": self.student_optimizer.state_dict(),
            "fake_optimizer": self.fake_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        if state["teacher"] != checksum(self.teacher.model):
            raise CheckpointError("the run was begun with another teacher: choose another --out, or --fresh")
        self.student.load_state_dict(state["student"])
        self.fake.load_state_dict(state["fake"])
        self.student_optimizer.load_state_dict(state["student_optimizer"])
        self.fake_optimizer.load_state_dict(state["fake_optimizer"])


def _check_same_path(teacher: PosteriorMean, model: PosteriorMean, role: str) -> None:
    """Teacher, student and fake must speak of the same x_t."""
    mine, theirs = teacher.interpolant, model.interpolant
    if (mine.t_source, mine.t_data) == (theirs.t_source, theirs.t_data):
        times = mine.time(torch.linspace(0, 1, 9, dtype=torch.float64))
        k, j = mine.at(times), theirs.at(times)
        if all(torch.allclose(x, y) for x, y in ((k.a, j.a), (k.b, j.b), (k.g_squared, j.g_squared))):
            return
    raise ValueError(f"the {role} is on {type(theirs).__name__}, the teacher on another path ({type(mine).__name__})")
