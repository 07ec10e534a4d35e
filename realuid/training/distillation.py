"""Distillation: K steps of the fake network for one of the generator (arXiv 2509.22459, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from realuid.adversarial import Adversary
from realuid.checkpoints import checksum
from realuid.conversions import UndeterminedError
from realuid.errors import CheckpointError
from realuid.foreign.loading import load_weights
from realuid.foreign.scaling import check_scaling
from realuid.losses import DistillationLoss, gap
from realuid.matching import MatchingModel, PosteriorMean, matching_model_of
from realuid.samplers import FreshNoise
from realuid.students import Student
from realuid.teachers import Teacher
from realuid.time_samplers import TimeSampler
from realuid.training.diagnostics import fake_error, gap_by_time, moments, quartiles
from realuid.training.drawing import Drawing, Drawn
from realuid.training.ema import EMA
from realuid.training.initialisation import initialise, start_from
from realuid.training.optimizers import Adam
from realuid.training.points import Points, place
from realuid.training.procedure import (
    Context,
    Generator,
    Procedure,
    backward,
    draw_path,
)
from realuid.weights import Weight

__all__ = ["Distillation"]


class Distillation(Procedure):
    """Distils a teacher into a one-step student. One step is `fake_steps` updates of the fake network and then one of
    the generator; it counts as one batch of images.

    Generated samples are paired with source samples by the teacher's own coupling. Real samples share times and noise
    with the first generated ones of their lane.

    Args:
        teacher: the frozen f*.
        student: the generator; its own path only says how it starts.
        fake: the network f that learns the generator's own function; same path as the teacher, any target.
        loss: the min-max objective, written in a target of its own.
        time_sampler: law of the times, shared by the generated and the real part.
        weight: w(t), shared likewise.
        generator_time_sampler: law of the times in the generator's step, if it is another (SiD, DMD2).
        generator_weight: w(t) there, if it is another.
        adversary: a GAN head on the fake network, the baseline that needs no beta != alpha; None for none.
        student_optimizer: of the generator.
        fake_optimizer: of the fake network.
        ema: averages of the generator's weights.
        fake_steps: K, updates of the fake network for one of the generator; below 3 tends to be unstable.
        real_batch: real samples in one fake step, at most the batch. Either part is averaged over its own count, so
            that the loss is unbiased for any number; it is ignored by losses that use no real data.
        student_init: where the student starts: `teacher`, `random`, or a checkpoint's path or URL; another project's is
            read as `Teacher.format` and `Teacher.known` say.
        student_init_ema: which average of that checkpoint to take; None for its first.
        fake_init: where the fake network starts: `random` (from scratch), `teacher` (fine-tuning), or a checkpoint.

    Raises:
        ValueError: if `fake_steps` or `real_batch` is less than one, or the times do not fit the path.
        UndeterminedError: if teacher or fake do not determine the loss's target where times are drawn.
    """

    trained = ("student", "fake", "head")

    def __init__(
        self,
        *,
        teacher: Teacher,
        student: Student,
        fake: PosteriorMean,
        loss: DistillationLoss,
        time_sampler: TimeSampler,
        weight: Weight,
        student_optimizer: Adam,
        fake_optimizer: Adam,
        ema: EMA,
        fake_steps: int = 5,
        real_batch: int,
        student_init: str = "teacher",
        student_init_ema: str | None = None,
        fake_init: str = "random",
        generator_time_sampler: TimeSampler | None = None,
        generator_weight: Weight | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        if fake_steps < 1 or real_batch < 1:
            raise ValueError(f"fake_steps and real_batch must be at least 1, got {fake_steps} and {real_batch}")
        self.teacher, self.student, self.fake, self.loss = teacher, student, fake, loss
        self.sampler, self.coupling, self.decoder = teacher.sampler, teacher.model.coupling, teacher.decoder
        self.time_sampler, self.weight = time_sampler, weight
        self.generator_time_sampler = generator_time_sampler or time_sampler
        self.generator_weight = generator_weight or weight
        self.student_optimizer, self.fake_optimizer, self.ema = student_optimizer, fake_optimizer, ema
        self.fake_steps, self.real_batch = fake_steps, real_batch
        self.drawing = Drawing(self.coupling, real_batch)
        self.student_init, self.fake_init, self.student_init_ema = student_init, fake_init, student_init_ema
        path = teacher.model.interpolant
        for model in (teacher.model, fake):
            if (matching := matching_model_of(model)) is not None:
                matching.check_network()
        for law, w in ((time_sampler, weight), (self.generator_time_sampler, self.generator_weight)):
            times = law.span(path)
            w.check(path.at(times))
            for who, model in (("teacher", teacher.model), ("fake", fake)):
                try:
                    model.check(loss.target, times)
                except UndeterminedError as error:
                    raise UndeterminedError(f"{type(loss).__name__}.target of the {who}: {error}") from None
        _check_same_path(teacher.model, fake)
        self.adversary = adversary
        if adversary is not None:
            adversary.time_sampler.span(path)
            if not (isinstance(fake, MatchingModel) and hasattr(fake.network, "encode")):
                raise ValueError("an adversary reads the fake's middle features: a MatchingModel of a UNet is needed")
            given, taken = fake.network.middle_channels, adversary.head.channels
            if given != taken:
                raise ValueError(f"Discriminator.channels = {taken}, but the adversary's fake network gives {given}")
        if student.model.coupling.source != self.coupling.source:
            raise ValueError(
                f"the student starts from a {student.model.coupling.source} source, the teacher's coupling has a "
                f"{self.coupling.source} source"
            )

    def networks(self) -> dict[str, nn.Module]:
        head = {} if self.adversary is None else {"head": self.adversary.head}
        return {"student": self.student, "fake": self.fake, **head, "teacher": self.teacher.model}

    def optimizers(self) -> dict[str, Adam]:
        return {"student": self.student_optimizer, "fake": self.fake_optimizer}

    def start(self, context: Context) -> None:
        self.check(context)
        self.teacher.load()
        if self.teacher.foreign is not None:
            check_scaling(self.teacher.foreign, context.data, str(self.teacher.checkpoint))
        for role, source, posterior in (
            ("student", self.student_init, self.student.model),
            ("fake", self.fake_init, self.fake),
        ):
            model = matching_model_of(posterior)
            if model is None:
                raise ValueError(f"the {role} is a closed form: it has nothing to train")
            if source == "random":
                initialise(model, context.randomness.seed, role)
            elif source == "teacher":
                start_from(model, self.teacher.model)
            else:
                ema = self.student_init_ema if role == "student" else None
                load_weights(posterior, source, ema=ema, format=self.teacher.format, known=self.teacher.known)
        if self.adversary is not None:
            initialise(self.adversary.head, context.randomness.seed, "head")
        self.to(context)
        context.compute.prepare(list(self.networks().values()), context.device)
        self.distribution = distribution = context.distribution
        distribution.place(context.world, list(self.networks().values()))
        self._fake_objective = distribution.objective(self._rivals(), self._fake_loss)
        self._generator_objective = distribution.objective([self.student], self._generator_loss)
        self.student_optimizer.attach(self.student.parameters())
        self._list_rivals()
        self.fake_optimizer.attach(self._rival_weights)
        self.ema.attach(self.student, distribution.template(self.student))

    def _rivals(self) -> list[nn.Module]:
        """The networks of the fake step."""
        return [self.fake] if self.adversary is None else [self.fake, self.adversary.head]

    def _list_rivals(self) -> None:
        """Their modules and weights, once: to walk through networks twice a step takes a while."""
        self._rival_modules = [module for network in self._rivals() for module in network.modules()]
        self._own_train = any(type(module).train is not nn.Module.train for module in self._rival_modules)
        self._rival_weights = [weight for network in self._rivals() for weight in network.parameters()]

    def _train_rivals(self, training: bool) -> None:
        self.distribution.settle(self._rival_modules)
        if self._own_train:
            for network in self._rivals():
                network.train(training)
        else:
            for module in self._rival_modules:
                vars(module)["training"] = training  # past torch's own check of every attribute
        for weight in self._rival_weights:
            weight.requires_grad_(training)

    def to(self, context: Context) -> None:
        """Puts the networks on the context's device; the rest of `start` needs weights, this does not."""
        self.context = context
        self._quartiles = quartiles(self.generator_time_sampler, self.teacher.model.interpolant, context.device)
        for network in self.networks().values():
            network.to(context.device)
        self._list_rivals()
        self.teacher.model.eval().requires_grad_(False)

    def check(self, context: Context) -> None:
        self.drawing.check(context)
        self.ema.check(context.distribution, context.world)

    def step(self, index: int) -> dict[str, Tensor]:
        context, substeps = self.context, self.fake_steps + 1
        images, scalars = index * context.batch, {}
        self._train_rivals(True)
        for k in range(self.fake_steps):
            substep = index * substeps + k
            shares = self.drawing.draw(context, substep, index * self.fake_steps + k if self.uses_real_data else None)
            scalars = backward(context, "regression", self._fake_objective, [(substep, drawn) for drawn in shares])
            scalars["fake_grad_norm"] = self.fake_optimizer.step(images)

        self._train_rivals(False)
        substep = index * substeps + self.fake_steps
        shares = self.drawing.draw(context, substep)
        scalars |= backward(context, "generator", self._generator_objective, [(substep, drawn) for drawn in shares])
        scalars["generator_grad_norm"] = self.student_optimizer.step(images)
        self.ema.update()
        return scalars

    def _generate(self, context: Context, substep: int, drawn: Drawn) -> Tensor:
        """Generated samples x1."""

        def noise(k: int) -> Tensor:
            return context.randomness.normal(f"student {k}", substep, context.batch, context.shape)

        return self.student(drawn.x0, drawn.labels, noise)

    @property
    def uses_real_data(self) -> bool:
        return self.loss.uses_real_data or self.adversary is not None

    def _fake_loss(self, context: Context, substep: int, drawn: Drawn) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, target = self.teacher.model, self.loss.target
        with torch.no_grad():
            x1 = self._generate(context, substep, drawn)
            seen = drawn if self.loss.uses_real_data else replace(drawn, real=None)
            points = self._place(context, substep, seen, x1, self.time_sampler, self.weight)
            f_star = points.predicted(teacher, target) if self.loss.fake_step_needs_teacher else None
        generated, *rest = points.terms(points.predicted(self.fake, target), f_star)
        loss = self.loss.fake_loss(generated, rest[0] if rest else None)
        if self.adversary is not None:
            generated_logits, real_logits = self._logits(context, substep, drawn, x1)
            loss = loss + self.adversary.fake_loss(generated_logits, real_logits)
        scalars = {"fake_loss": loss, "fake_error_generated": fake_error(generated)}
        if drawn.real is not None:
            scalars |= moments(drawn.real[0], "real")
        if rest:
            scalars["fake_error_real"] = fake_error(rest[0])
        return loss, scalars

    def _generator_loss(self, context: Context, substep: int, drawn: Drawn) -> tuple[Tensor, dict[str, Tensor]]:
        x1, target = self._generate(context, substep, drawn), self.loss.target
        points = self._place(context, substep, drawn, x1, self.generator_time_sampler, self.generator_weight)
        with torch.set_grad_enabled(self.loss.differentiates_networks):
            f_star, fake = points.predicted(self.teacher.model, target), points.predicted(self.fake, target)
        (terms,) = points.terms(fake, f_star)
        loss = self.loss.generator_loss(terms)
        if self.adversary is not None:
            (logits,) = self._logits(context, substep, drawn, x1)
            loss = loss + self.adversary.generator_loss(logits)
        scalars = {"generator_loss": loss, "gap": gap(terms)}
        return loss, scalars | gap_by_time(terms, points.k.t, self._quartiles) | moments(x1, "generated")

    def _place(
        self,
        context: Context,
        substep: int,
        drawn: Drawn,
        x1: Tensor,
        law: TimeSampler,
        weight: Weight,
        purpose: str = "",
    ) -> Points:
        """Generated samples x1 on the path and, if some were drawn, real ones at the same times with the same noise."""
        path, labels, sizes = self.teacher.model.interpolant, drawn.labels, [len(x1)]
        draws = draw_path(context, path, law, substep, drawn.beside, purpose)
        if drawn.real is not None:
            real, real_labels = drawn.real
            rows = self.drawing.real_rows(context)
            same = draws.take(rows)
            if drawn.beside is not None:
                same = replace(same, x0=drawn.x0[rows])
            x1, labels, draws = torch.cat([x1, real]), torch.cat([labels, real_labels]), draws.and_then(same)
            sizes.append(len(real))
        return place(self.teacher.model, self.loss.target, weight, x1, labels, draws, sizes)

    def _logits(self, context: Context, substep: int, drawn: Drawn, x1: Tensor) -> Sequence[Tensor]:
        """What the adversary's head says of generated samples x1 and, if some were drawn, of real ones."""
        assert self.adversary is not None
        assert isinstance(self.fake, MatchingModel)
        points = self._place(context, substep, drawn, x1, self.adversary.time_sampler, self.weight, "adversary ")
        features = self.fake.encode(points.k, points.x_t, points.labels, points.x0)
        return self.adversary.head(features).split(points.sizes)

    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        student, teacher = self.ema.averaged(ema), self.distribution.alone(self.teacher.model)
        assert isinstance(teacher, PosteriorMean)

        @torch.no_grad()
        def generate(x0: Tensor, labels: Tensor, noise: FreshNoise) -> Tensor:
            return student(x0, labels, noise)

        return {
            "student": generate,
            "teacher": lambda x0, labels, noise: self.sampler(teacher, x0, labels, noise),
        }

    def sampling(self, role: str) -> dict[str, str | None]:
        if role == "teacher":
            return {"sampler": self.sampler.name, "ema": self.teacher.ema, "weights": self.teacher.checksum}
        weights = checksum(self.ema.averaged())
        return {"sampler": self.student.name, "ema": self.ema.names[0], "weights": weights}

    def known(self, role: str) -> dict[str, Any]:
        return (self.teacher.summary or {}) if role == "teacher" else {}

    def passes(self, context: Context) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        def fake_step() -> Tensor:
            self._train_rivals(True)
            return self._fake_loss(context, 0, self.drawing.empty(context, self.uses_real_data))[0]

        def generator_step() -> Tensor:
            self._train_rivals(False)
            return self._generator_loss(context, 0, self.drawing.empty(context, False))[0]

        self.check(context)
        self.to(context)
        return {"fake": (self.fake_steps, fake_step), "generator": (1, generator_step)}

    def images_read(self, batch: int) -> int:
        if not self.coupling.gaussian_source:
            return (self.fake_steps + 1) * batch
        return self.fake_steps * self.real_batch if self.uses_real_data else 0

    def state_dict(self) -> dict:
        return {
            "teacher": self.teacher.checksum,
            "student": self.student.state_dict(),
            "fake": [network.state_dict() for network in self._rivals()],
            "student_optimizer": self.student_optimizer.state_dict(),
            "fake_optimizer": self.fake_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        if state["teacher"] != self.teacher.checksum:
            raise CheckpointError("the run was begun with another teacher: choose another --out, or --fresh")
        self.student.load_state_dict(state["student"])
        for network, weights in zip(self._rivals(), state["fake"], strict=True):
            network.load_state_dict(weights)
        self.student_optimizer.load_state_dict(state["student_optimizer"])
        self.fake_optimizer.load_state_dict(state["fake_optimizer"])


def _check_same_path(teacher: PosteriorMean, fake: PosteriorMean) -> None:
    """Teacher and fake must speak of the same x_t, and know the same."""
    mine, theirs = teacher.interpolant, fake.interpolant
    if teacher.conditioned != fake.conditioned:
        raise ValueError("teacher and fake must both be conditioned on x0, or neither")
    if (mine.t_source, mine.t_data) == (theirs.t_source, theirs.t_data):
        times = mine.time(torch.linspace(0, 1, 9, dtype=torch.float64))
        k, j = mine.at(times), theirs.at(times)
        if all(torch.allclose(x, y) for x, y in ((k.a, j.a), (k.b, j.b), (k.g_squared, j.g_squared))):
            return
    raise ValueError(f"the fake is on {type(theirs).__name__}, the teacher on another path ({type(mine).__name__})")
