"""The rehearsal: a small network is trained under the bound framework on the built-in digits, teacher and student.

It takes minutes. Framework, loss (as it is at the end of the run), kind of start and warm start are those that are
bound. A checkpoint to start from counts as the teacher, and an adversary is left out. Network, data, batch,
lengths and learning rates are the rehearsal's own. If the rehearsal fails, a long run will most likely fail too. If it
passes, nothing is promised for large images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from loguru import logger

from realuid.check.small import network_like, small_data
from realuid.check.table import Caution, Note, Row, failure
from realuid.data.dataset import Dataset
from realuid.data.pixels import to_float
from realuid.distillation.distillation import Distillation
from realuid.distillation.teacher_training import TeacherTraining
from realuid.distillation.teachers import Teacher
from realuid.distillation.warm_start import MatchedTime, WarmStart
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.small_classifier import SmallClassifier
from realuid.losses import DistillationLoss
from realuid.models.matching import MatchingModel, matching_model_of, regression_loss
from realuid.paths.interpolants import Coefficients
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import UnitWeight, Weight
from realuid.training.assessment import Assessment
from realuid.training.ema import EMA
from realuid.training.method import Context, draw_path, source_images
from realuid.training.optimizers import Adam, CosineLR
from realuid.training.trainer import Trainer
from realuid.training.world import World
from realuid.utils.errors import RunError
from realuid.utils.progress import Progress

BATCH, REAL = 96, 16
TEACHER_STEPS, WARM_STEPS, STEPS = 400, 300, 100
TEACHER_RATE, RATE = 2e-3, 1e-3
COUNT = 1000
"""Images of which distances are measured."""
MOST_FAKE_STEPS = 4
DROPOUT = 0.1
"""Share of the samples that a teacher with a null condition is told nothing about."""


@dataclass(frozen=True)
class Outcome:
    """Fréchet distances to the digits."""

    student: float
    teacher: float
    gaussian: float
    """Of images drawn from a Gaussian with the mean and covariance of the pixels."""

    @property
    def rows(self) -> list[Row | Note | Caution]:
        """What is asked: the teacher gets below the Gaussian, and the student at least half of the way from it to the
        teacher, on a logarithmic scale."""
        if not math.isfinite(self.teacher):
            return [failure("rehearsal: the teacher", "its samples are not finite")]
        middle = math.sqrt(self.gaussian * min(self.teacher, self.gaussian))
        return [
            Note("rehearsal: distance of the pixel Gaussian", f"{self.gaussian:.3g}"),
            Row("rehearsal: distance of the teacher", self.teacher, self.gaussian, "below the pixel Gaussian"),
            Row("rehearsal: distance of the student", self.student, middle, "at least half of the way to the teacher"),
        ]


class OutputWeight(Weight):
    """w(t) = 1 / c_out^2 of a model's scalings: its network's own answer counts alike at all times.

    Args:
        model: of whose first row the scalings are.
    """

    def __init__(self, model: MatchingModel) -> None:
        self.model = model

    def __call__(self, k: Coefficients) -> torch.Tensor:
        scalings = self.model.preconditioning(k, self.model.target)
        return torch.ones_like(k.t) if scalings is None else scalings.c_out[0] ** -2


class _Ready(Teacher):
    """A teacher whose weights are there already."""

    def load(self) -> None:
        self.model.eval().requires_grad_(False)
        self.checksum = "rehearsed"


def rehearse(trainer: Trainer, teacher: Trainer | None) -> Outcome:
    """Trains teacher and student on the digits and measures both. The method's networks are replaced.

    Args:
        trainer: of a distillation.
        teacher: of its teacher's training, where the same file binds one: whose times and weight it takes.

    Raises:
        RunError: if the framework cannot be had on digits.
        ValueError: if parts do not fit each other.
    """
    method = trainer.method
    if not isinstance(method, Distillation):
        raise RunError("only a distillation can be rehearsed: this file trains a teacher")
    data = small_data(trainer.data, method.coupling)
    world = World(torch.device("cpu"))
    data.open(seed=trainer.seed, device=world.device)
    if method.adversary is not None:
        logger.warning("rehearsal: without the adversary, which reads the middle of the bound network")
    native = matching_model_of(method.teacher.model)
    models = [native, method.student.model, matching_model_of(method.fake)]
    noises = [0, method.student.noise, 0]
    for model, noise in zip(models, noises, strict=True):
        if model is not None:
            model.network = network_like(model, noise)
    context = _context(trainer, data, method)  # the small networks are told what the digits have
    if native is not None:
        logger.info("rehearsal: the teacher, {} steps of {}", TEACHER_STEPS, context.batch)
        _train(native, method, teacher, context)
    small = _distillation(method, context, method.loss.at(trainer.images))
    small.start(context)
    steps = small.leading_steps(context.batch) + STEPS
    logger.info("rehearsal: the student, {} steps of {}", steps, context.batch)
    progress = Progress("steps of the student", steps)
    for index in range(steps):
        torch.manual_seed(index)
        small.step(index)
        progress.advance(1)
    return _measured(small, data, world)


def _context(trainer: Trainer, data: Dataset, method: Distillation) -> Context:
    group = method.coupling.size
    small = Trainer(
        method=method,
        data=data,
        seed=trainer.seed,
        batch=-(-BATCH // group) * group,
        images=BATCH,
        log_images=BATCH,
        sample_images=BATCH,
        checkpoint_images=BATCH,
        device="cpu",
    )
    context = small.context(World(torch.device("cpu")))
    if data.classes:
        context.frequencies.copy_(data.label_counts)
    return context


def _train(native: MatchingModel, method: Distillation, teacher: Trainer | None, context: Context) -> None:
    """The teacher's regression; its network then has the averaged weights."""
    law, weight = _law(native, method, teacher)
    adam = _adam(TEACHER_RATE, TEACHER_STEPS * context.batch, (0.9, 0.999))
    ema = EMA(decays=(0.99,))
    native.train().requires_grad_(True)
    adam.attach(native.parameters())
    ema.attach(native)
    progress = Progress("steps of the teacher", TEACHER_STEPS)
    for index in range(TEACHER_STEPS):
        (batch,) = context.read(index * context.batch, context.batch)
        x1, condition = to_float(batch.images), batch.condition
        x0 = None if native.coupling.gaussian_source else source_images(batch)
        x0, z, t = draw_path(context, native.interpolant, law, index, x0)
        x0 = native.coupling.pair(x0, x1, condition)
        if native.network.has_null:
            dropped = context.randomness.uniform("dropout", index, context.batch) < DROPOUT
            condition = native.network.null(condition).where(dropped, condition)
        regression_loss(native, x0=x0, x1=x1, z=z, t=t, condition=condition, weight=weight).backward()
        adam.step(index * context.batch)
        ema.update()
        progress.advance(1)
    native.load_state_dict(ema.averaged().state_dict())


def _law(native: MatchingModel, method: Distillation, teacher: Trainer | None) -> tuple[TimeSampler, Weight]:
    if teacher is not None and isinstance(teacher.method, TeacherTraining):
        return teacher.method.time_sampler, teacher.method.weight
    law, path = method.time_sampler, method.teacher.model.interpolant
    weight = UnitWeight() if native.preconditioning(_middle(native), native.target) is None else OutputWeight(native)
    return (law if native is method.teacher.model else MatchedTime(law, path)), weight


def _middle(model: MatchingModel) -> Coefficients:
    return model.interpolant.at(model.interpolant.time(torch.tensor([0.5], dtype=torch.float64)))


def _distillation(method: Distillation, context: Context, loss: DistillationLoss) -> Distillation:
    """The distillation with the rehearsal's numbers, without an adversary."""
    images, group = STEPS * context.batch, method.coupling.size
    warm = None if method.warm_start is None else WarmStart(images=WARM_STEPS * context.batch, lr=TEACHER_RATE)
    return Distillation(
        teacher=_Ready(model=method.teacher.model, sampler=method.sampler),
        student=method.student,
        fake=method.fake,
        loss=loss,
        time_sampler=method.time_sampler,
        weight=method.weight,
        student_optimizer=_adam(RATE, images, method.student_optimizer.betas),
        fake_optimizer=_adam(RATE, images, method.fake_optimizer.betas),
        ema=EMA(decays=(0.95,)),
        fake_steps=min(method.updates.fake_steps, MOST_FAKE_STEPS),
        steps_per_sample=method.updates.steps_per_sample,
        times_per_sample=method.times_per_sample,
        real_batch=-(-REAL // group) * group,
        student_init="random" if method.student_init == "random" else "teacher",
        fake_init=_fake_init(method),
        generator_time_sampler=method.generator_time_sampler,
        generator_weight=method.generator_weight,
        warm_start=warm,
    )


def _fake_init(method: Distillation) -> str:
    """As bound, but for a random fake network beside a student that has the teacher's weights: that needs a longer run,
    and here takes them, too."""
    native, fake = matching_model_of(method.teacher.model), matching_model_of(method.fake)
    if method.fake_init != "random" or method.student_init == "random":
        return "random" if method.fake_init == "random" else "teacher"
    fits = native is not None and fake is not None and native.target == fake.target
    return "teacher" if fits else "random"


def _adam(lr: float, images: int, betas: tuple[float, float]) -> Adam:
    return Adam(lr=lr, lr_schedule=CosineLR(images=images, warm_up=images // 40), betas=betas)


def _measured(method: Distillation, data: Dataset, world: World) -> Outcome:
    evaluator = Evaluator(features=SmallClassifier(), count=COUNT)
    assessment = Assessment(method, data, evaluator, world)
    distances = {}
    for role, generator in method.generators().items():
        logger.info("rehearsal: evaluating the {}", role)
        try:
            distances[role] = assessment.measure(role, generator, ranking=True)[f"{role}_frechet"]
        except FloatingPointError:
            distances[role] = math.inf
    return Outcome(distances["student"], distances["teacher"], evaluator.baselines()["pixel_gaussian_frechet"])
