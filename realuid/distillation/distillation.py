"""Distillation: K steps of the fake network for one of the generator (arXiv 2509.22459, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from loguru import logger
from torch import Tensor, nn

from realuid.checkpoints import checksum
from realuid.conditions import Condition
from realuid.distillation.checks import check_adapted, check_counts, check_idle, check_models
from realuid.distillation.fake_network import FakeNetwork
from realuid.distillation.idle_weights import IdleWeights
from realuid.distillation.initialisation import Roles, initialise, share_teacher, start_roles
from realuid.distillation.objectives import Objectives
from realuid.distillation.step_inputs import InputSampler
from realuid.distillation.students import Student
from realuid.distillation.teachers import Teacher
from realuid.distillation.updates import Updates
from realuid.distillation.warm_start import HINT, WarmStart, pupils
from realuid.losses import DistillationLoss
from realuid.losses.adversarial import Adversary
from realuid.models.matching import PosteriorMean
from realuid.networks.lora import load_own, own_parameters, own_state
from realuid.networks.storage import packed
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight
from realuid.pretrained.scaling import check_scaling
from realuid.samplers import FreshNoise
from realuid.training.ema import EMA
from realuid.training.method import Context, Generator, Method, backward
from realuid.training.optimizers import Adam
from realuid.utils.errors import CheckpointError

__all__ = ["Distillation"]


class Distillation(Method):
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
        steps_per_sample: updates of the fake network that see the same generated samples, each at new times, with new
            noise and beside new real samples (where sources come with the data: the next of the same batch); no more
            than the K of one step do. K spares K - 1 passes of the student.
        times_per_sample: times of the path, each with noise of its own, at which the generator's update sees each of
            its samples; the loss is their mean. Each costs 4 forward passes, the samples 3.
        real_batch: real samples in one fake step, at most the batch. Either part is averaged over its own count, so
            that the loss is unbiased for any number; it is ignored by losses that use no real data.
        student_init: where the student starts: `teacher`, `random`, or a checkpoint (path or URL, as Teacher.format).
        student_init_ema: which average of that checkpoint to take; None for its first.
        fake_init: where the fake network starts: `random` (from scratch), `teacher` (fine-tuning), or a checkpoint.
        warm_start: a phase in which the networks of `random` init first learn the teacher's function; None for none.

    Raises:
        ValueError: if a number is below one, the times do not fit the path, or nothing is to warm.
        UndeterminedError: if teacher or fake do not determine the loss's target where times are drawn.
    """

    trained = ("student", "fake", "head")
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "student": ("student", "teacher.decoder"),
        "teacher": ("teacher.model", "teacher.sampler", "teacher.decoder"),
    }
    teacher: Teacher

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
        steps_per_sample: int = 1,
        times_per_sample: int = 1,
        real_batch: int,
        student_init: str = "teacher",
        student_init_ema: str | None = None,
        fake_init: str = "random",
        generator_time_sampler: TimeSampler | None = None,
        generator_weight: Weight | None = None,
        adversary: Adversary | None = None,
        warm_start: WarmStart | None = None,
    ) -> None:
        check_counts(times_per_sample=times_per_sample, real_batch=real_batch)
        self.updates = Updates(fake_steps=fake_steps, steps_per_sample=steps_per_sample)
        self.teacher, self.student, self.fake, self.loss = teacher, student, fake, loss
        self.sampler, self.coupling, self.decoder = teacher.sampler, teacher.model.coupling, teacher.decoder
        self.student_optimizer, self.fake_optimizer, self.ema = student_optimizer, fake_optimizer, ema
        self.times_per_sample, self.real_batch = times_per_sample, real_batch
        self.inputs = InputSampler(teacher.model, loss.target, real_batch)
        self.student_init, self.fake_init, self.student_init_ema = student_init, fake_init, student_init_ema
        self.adversary = adversary
        self.sharing = share_teacher(teacher.model, self._roles())
        """Roles that are adapters of the teacher's network."""
        if "student" in self.sharing:
            check_adapted(student)
        self.fake_network = FakeNetwork(fake, fake_optimizer, adversary)
        self.time_sampler, self.weight = time_sampler, weight
        self.generator_time_sampler = generator_time_sampler or time_sampler
        self.generator_weight = generator_weight or weight
        times = (time_sampler, weight), (self.generator_time_sampler, self.generator_weight)
        check_models(teacher.model, student, fake, loss, times, adversary)
        self.warm_start, self.warming = warm_start, False
        if warm_start is not None:
            warm_start.take(teacher.model, pupils(student, fake, student_init, fake_init), time_sampler)

    def _roles(self) -> Roles:
        student = self.student.model, self.student_init, self.student_init_ema
        return {"student": student, "fake": (self.fake, self.fake_init, None)}

    def networks(self) -> dict[str, nn.Module]:
        head = {} if self.adversary is None else {"head": self.adversary.head}
        return {"student": self.student, "fake": self.fake, **head, "teacher": self.teacher.model}

    def optimizers(self) -> dict[str, Adam]:
        own = {"student": self.student_optimizer, "fake": self.fake_optimizer}
        return own if self.warm_start is None else own | self.warm_start.optimizers

    def start(self, context: Context) -> None:
        self.check(context)
        self.teacher.load()
        if self.teacher.foreign is not None:
            check_scaling(self.teacher.foreign, context.data, str(self.teacher.checkpoint))
        start_roles(self._roles(), self.teacher, context.randomness.seed)
        if self.adversary is not None:
            initialise(self.adversary.head, context.randomness.seed, "head")
        self.pack()
        self.to(context)
        context.compute.prepare(list(self.networks().values()), context.device, len(context.data.shapes))
        self.parallelism = parallelism = context.parallelism
        parallelism.place(context.world, list(self.networks().values()))
        self._idle = IdleWeights(self.teacher.model, context.device) if self.teacher.idle_device else None
        self._fake_objective = parallelism.objective(self.fake_network.networks, self.objectives.fake)
        self._generator_objective = parallelism.objective([self.student], self.objectives.generator)
        if self.student_init == "random" and self.warm_start is None and context.world.main:
            logger.warning("the student starts from random weights, from which distillations collapse: {}", HINT)
        self.enter(0)

    def leading_steps(self, batch: int) -> int:
        return 0 if self.warm_start is None else self.warm_start.steps(batch)

    def enter(self, step: int) -> None:
        self.warming = step < self.leading_steps(self.context.batch)
        self.student_optimizer.attach(own_parameters(self.student))
        self.fake_network.attach(self.parallelism)
        self.ema.attach(self.student, self.parallelism.template(self.student), self._base)
        if self.warm_start is not None:
            self.warm_start.detach()
            if self.warming:
                self.warm_start.attach(self.context)

    def pack(self) -> None:
        """Rounds the teacher's weights, if they are kept in bfloat16, once others have started from them."""
        self.teacher.pack()
        if self.teacher.storage == "bfloat16":
            for role in self.sharing:
                packed(self.networks()[role])

    @property
    def _base(self) -> str | None:
        """Checksum of the network that the student adapts."""
        return self.teacher.checksum if "student" in self.sharing else None

    @property
    def samples_need_teacher(self) -> bool:
        return "student" in self.sharing

    def restore(self, averages: dict, device: torch.device) -> None:
        if self.samples_need_teacher:
            self.pack()
        self.ema.attach(self.student.to(device), base=self._base)
        self.ema.load_state_dict(averages)

    def to(self, context: Context) -> None:
        """Puts the networks on the context's device; the rest of `start` needs weights, this does not."""
        self.context = context
        self.objectives = Objectives(self, context.device)
        for network in self.networks().values():
            network.to(context.device)
        self.fake_network.index()
        self.teacher.model.eval().requires_grad_(False)

    def check(self, context: Context) -> None:
        self.inputs.check(context)
        self.ema.check(context.parallelism, context.world)
        if self.teacher.idle_device is not None:
            check_idle(self.loss, self.sharing, context.parallelism.shards(context.world))

    def step(self, index: int) -> dict[str, Tensor]:
        leading = self.leading_steps(self.context.batch)
        return self._warm_step(index) if index < leading else self._step(index - leading)

    def _warm_step(self, index: int) -> dict[str, Tensor]:
        assert self.warm_start is not None
        self.fake_network.train(True, self.parallelism)
        scalars = self.warm_start.step(index)
        self.ema.update()
        if index + 1 == self.leading_steps(self.context.batch):
            self.enter(index + 1)
        return scalars

    def _step(self, index: int) -> dict[str, Tensor]:
        context, images, scalars = self.context.of_step(index), index * self.context.batch, {}
        self.fake_network.train(True, self.parallelism)
        if self._idle is not None:
            self._idle.leave()
        generate = self.objectives.generated
        for update in self.updates.of_fake(context, self.inputs, generate, index, self.uses_real_data):
            scalars = backward(context, "regression", self._fake_objective, update)
            scalars["fake_grad_norm"] = self.fake_network.step(images)

        self.fake_network.train(False, self.parallelism)
        if self._idle is not None:
            self._idle.come_back()
        drawn = self.updates.of_generator(context, self.inputs, index)
        scalars |= backward(context, "generator", self._generator_objective, drawn)
        scalars["generator_grad_norm"] = self.student_optimizer.step(images)
        self.ema.update()
        return scalars

    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        student, teacher = self.ema.averaged(ema), self.parallelism.alone(self.teacher.model)
        assert isinstance(teacher, PosteriorMean)

        @torch.no_grad()
        def generate(x0: Tensor, condition: Condition, noise: FreshNoise) -> Tensor:
            return student(x0, condition, noise)

        return {"student": generate, "teacher": partial(self.sampler, teacher)}

    def sampling(self, role: str) -> dict[str, str | None]:
        if role == "teacher":
            kept = {} if self.teacher.storage == "float32" else {"storage": self.teacher.storage}
            return {"sampler": self.sampler.name, "ema": self.teacher.ema, "weights": self.teacher.checksum, **kept}
        return {"sampler": self.student.name, "ema": self.ema.names[0], "weights": checksum(self.ema.averaged())}

    def passes(self, context: Context) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        def fake_step(generates: bool) -> Tensor:
            self.fake_network.train(True, self.parallelism)
            return self.objectives.fake_on_empty(context, self.uses_real_data, generates)

        def generator_step() -> Tensor:
            self.fake_network.train(False, self.parallelism)
            return self.objectives.generator(context, 0, self.inputs.empty(context, False))[0]

        self.check(context)
        self.to(context)
        return self.updates.passes(fake_step, generator_step)

    @property
    def uses_real_data(self) -> bool:
        return self.loss.uses_real_data or self.adversary is not None

    def images_read(self, batch: int) -> int:
        return self.updates.images_read(batch, self.real_batch if self.uses_real_data else 0, self.coupling)

    def state_dict(self) -> dict:
        return {
            "teacher": self.teacher.checksum,
            "student": own_state(self.student),
            "fake": self.fake_network.state_dict(),
            **{f"{role}_optimizer": optimizer.state_dict() for role, optimizer in self.optimizers().items()},
        }

    def load_state_dict(self, state: dict) -> None:
        if state["teacher"] != self.teacher.checksum:
            raise CheckpointError("the run was begun with another teacher: choose another --out, or --fresh")
        load_own(self.student, state["student"])
        self.fake_network.load_state_dict(state["fake"])
        for role, optimizer in self.optimizers().items():
            optimizer.load_state_dict(state[f"{role}_optimizer"])
