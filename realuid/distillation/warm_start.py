r"""A warm start: networks that cannot take the teacher's weights first learn its function.

.. math:: E_{t, (x_0, x_1), z}\, \| (f_t(x_t) - f^*_t(x_t)) / c_{out}(t) \|^2

This is the matching loss (arXiv 2509.22459, definition 1) with the teacher's answer in the place of the sampled target.
Where the teacher is the posterior mean of the data, both losses have the same gradient on average; this one has less
noise, and it is also right for a teacher that is guided or wrong. Divided by c_out of the preconditioning, what the
network itself answers counts alike at all times (EDM's weight, Karras et al. 2206.00364, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from realuid.data.dataset import Batch
from realuid.data.pixels import to_float
from realuid.distillation.checks import same_path
from realuid.distillation.students import Student
from realuid.models.matching import MatchingModel, PosteriorMean, matching_model_of
from realuid.models.reexpression import ReexpressedModel
from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import TimeSampler
from realuid.training.method import Context, backward, draw_path, source_images
from realuid.training.optimizers import Adam, CosineLR
from realuid.training.parallelism import Objective

__all__ = ["WarmStart", "pupils"]

HINT = "bind Distillation.warm_start = @WarmStart() and WarmStart.images, for instance 64_000"
"""What to do about a student on random weights."""


@dataclass(frozen=True)
class Pupil:
    """A network that learns, and whom it learns from."""

    module: nn.Module
    """What holds the weights: a student, or the fake model."""
    model: MatchingModel
    noise: int
    """Images of noise that the network is given beside x_t."""
    teacher: PosteriorMean
    """The teacher on the path of `model`."""
    time_sampler: TimeSampler
    """Of times of that path."""


class WarmStart:
    """The phase before a distillation in which networks on random weights learn the teacher's function.

    It takes whichever of student and fake network has `random` as its init. Each learns at all times that the
    distillation's time sampler draws, on its own path, by Adam of its own with a short warm-up and a half cosine. Its
    images count: the run is longer by them, and the schedules of the distillation begin where it ends.

    Args:
        images: length of the phase. A small network wants about half of what its teacher's training took.
        lr: learning rate, that of the teacher's training; large U-Nets want about 1e-4.

    Raises:
        ValueError: if a number is not positive.
    """

    def __init__(self, *, images: int, lr: float = 1e-3) -> None:
        if images < 1 or lr <= 0:
            raise ValueError(f"images and lr must be positive, got {images} and {lr}")
        self.images, self.lr = images, lr
        self.pupils: dict[str, Pupil] = {}
        self.optimizers: dict[str, Adam] = {}
        """By role, while the phase lasts."""

    def take(
        self, teacher: PosteriorMean, pupils: Mapping[str, tuple[nn.Module, MatchingModel, int]], law: TimeSampler
    ) -> None:
        """States who learns, at assembly.

        Args:
            teacher: whose function is learnt.
            pupils: by role what holds the weights, its matching model, and how many images of noise that is given.
            law: of the times, on the teacher's path.

        Raises:
            ValueError: if nobody does, or the teacher does not determine what a pupil predicts.
        """
        if not pupils:
            raise ValueError(
                "warm_start has nothing to do: neither student_init nor fake_init is 'random' (a network that takes "
                "the teacher's weights needs none)"
            )
        for role, (module, model, noise) in pupils.items():
            try:
                self.pupils[role] = _pupil(teacher, module, model, noise, law)
            except ValueError as error:
                raise ValueError(f"warm_start of the {role}: {error}") from None

    def steps(self, batch: int) -> int:
        """Length of the phase in steps."""
        return -(-self.images // batch)

    def attach(self, context: Context) -> None:
        """Begins the phase: optimisers of the networks, which are where they stay."""
        self.context = context
        self._objectives: dict[str, Objective] = {}
        for role, pupil in self.pupils.items():
            schedule = CosineLR(images=self.images, warm_up=self.images // 50)
            self.optimizers[role] = adam = Adam(lr=self.lr, lr_schedule=schedule, betas=(0.9, 0.999))
            adam.attach(pupil.module.parameters())
            self._objectives[role] = context.parallelism.objective([pupil.module], partial(self._loss, role))

    def detach(self) -> None:
        """Ends the phase."""
        self.optimizers, self._objectives = {}, {}

    def step(self, index: int) -> dict[str, Tensor]:
        """The step number `index` (from 0) of every pupil, on the same batch of real images."""
        context, images = self.context.of_step(index), index * self.context.batch
        read = context.read((index - context.elsewhere) * context.batch, context.batch)
        batches = [(index, batch) for batch in read]
        scalars: dict[str, Tensor] = {}
        for role, objective in self._objectives.items():
            scalars |= backward(context, "regression", objective, batches)
            scalars[f"warm_{role}_grad_norm"] = self.optimizers[role].step(images)
        return scalars

    def _loss(self, role: str, context: Context, index: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        pupil = self.pupils[role]
        model, path = pupil.model, pupil.model.interpolant
        x1, condition = to_float(batch.images), batch.condition
        x0 = None if model.coupling.gaussian_source else source_images(batch)
        x0, z, t = draw_path(context, path, pupil.time_sampler, index, x0, "warm start ")
        x0, k = model.coupling.pair(x0, x1, condition), path.at(t)
        x_t = path.interpolate(k, x0, x1, z)
        beside = [
            context.randomness.normal(f"warm start noise {n}", index, context.batch, context.shape)
            for n in range(pupil.noise)
        ]
        with torch.no_grad():
            wanted = pupil.teacher.predict_at(k, x_t, condition, model.target, x0)
        found = model.predict_at(k, x_t, condition, model.target, x0, torch.cat(beside, dim=1) if beside else None)
        error = (found - wanted).square().unflatten(1, (model.target.out_multiplier, -1)).flatten(2).mean(2)
        if (scalings := model.preconditioning(k, model.target)) is not None:
            error = error / torch.stack(scalings.c_out, dim=1).square().to(error.dtype)
        loss = error.mean()
        return loss, {f"warm_{role}_loss": loss}


def _pupil(teacher: PosteriorMean, module: nn.Module, model: MatchingModel, noise: int, law: TimeSampler) -> Pupil:
    known, path = teacher_on(teacher, model.interpolant), model.interpolant
    if known.source_conditioned != model.source_conditioned:
        raise ValueError("it and the teacher must both be told x0, or neither")
    if known is not teacher:
        law = MatchedTime(law, teacher.interpolant)
    span = law.span(path)
    known.check(model.target, span)
    model.preconditioning.check(path.at(span), model.target)
    return Pupil(module, model, noise, known, law)


def teacher_on(teacher: PosteriorMean, path: Interpolant) -> PosteriorMean:
    """The teacher on another path: itself, or the model that it re-expresses, if that is on it; else re-expressed.

    Raises:
        ValueError: if it cannot be.
    """
    model = teacher
    while not same_path(model.interpolant, path):
        if not isinstance(model, ReexpressedModel):
            return ReexpressedModel(model=teacher, interpolant=path)
        model = model.model
    return model


class MatchedTime(TimeSampler):
    """The law of another path, at times of equal noise over data.

    Args:
        law: of times of `path`.
        path: the other path.
    """

    def __init__(self, law: TimeSampler, path: Interpolant) -> None:
        self.law, self.path = law, path

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        return interpolant.time_at(self.path.sigma_at(self.law.quantile(u, self.path)))


def pupils(
    student: Student, fake: PosteriorMean, student_init: str, fake_init: str
) -> dict[str, tuple[nn.Module, MatchingModel, int]]:
    """The networks of a distillation that start from random weights: see `WarmStart.take`."""
    found: dict[str, tuple[nn.Module, MatchingModel, int]] = {}
    if student_init == "random":
        found["student"] = student, student.model, student.noise
    if fake_init == "random" and (model := matching_model_of(fake)) is not None:
        found["fake"] = fake, model, 0
    return found
