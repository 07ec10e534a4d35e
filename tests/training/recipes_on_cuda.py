"""Recipes on a CUDA device that is not there, without their data and their weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor

from realuid import config as configuration
from realuid.conditions import Field
from realuid.config import Config
from realuid.data.dataset import Batch, Dataset
from realuid.distillation import distillation, teacher_training
from realuid.distillation.teachers import Teacher
from realuid.networks.no_init_weights import no_init_weights
from realuid.training.method import Context, empty_batch
from realuid.training.trainer import Trainer
from realuid.training.world import World
from tests import shipped
from tests.shipped import GIN
from tests.training.fake_cuda import CUDA, FakeCuda
from tests.training.fake_processes import fake_processes

PIPELINES = ("base/distillation_text.gin", "networks/pipeline", "tiny_text")
"""What recipes mention whose networks are those of a pipeline's folder, which is downloaded or made first."""
RECIPES = [
    name for name in shipped.RECIPES if not any(word in f"{name} {(GIN / name).read_text()}" for word in PIPELINES)
]


class Streamed(Dataset):
    """Samples in the form of another set, zeros that come from the host's memory."""

    def __init__(self, like: Dataset) -> None:
        self.shape, self.classes, self.has_sources = like.shape, like.classes, like.has_sources
        self.has_images, self.encoder = like.has_images, like.encoder
        self._conditions = like.conditions

    @property
    def conditions(self) -> tuple[Field, ...]:
        return self._conditions

    def missing(self) -> str | None:
        return None

    def open(self, *, seed: int, device: torch.device) -> None:
        self.device = device

    def __len__(self) -> int:
        return 1000

    @property
    def label_counts(self) -> Tensor:
        return torch.ones(self.classes, dtype=torch.int64)

    @property
    def checksum(self) -> str:
        return "zeros"

    def examples(self, start: int, count: int) -> Batch:
        here = SimpleNamespace(shape=self.shape, device=torch.device("cpu"), data=self)
        return empty_batch(here, count)  # type: ignore[arg-type]

    def batch(self, start: int, count: int) -> Batch:
        return self.examples(start, count).to(self.device)


def configured(recipe: str) -> Config:
    """One fake update a step is enough: the others are like it."""
    return configuration.load([f"gin/{recipe}"], ["Distillation.fake_steps = 1"])


def built(config: Config) -> Trainer:
    """Its networks have whatever weights the memory holds; its data are zeros."""
    with no_init_weights():
        trainer = configuration.build(config)
    assert isinstance(trainer, Trainer)
    trainer.data = Streamed(trainer.data)
    trainer.prompts = None if trainer.prompts is None else Streamed(trainer.prompts)
    return trainer


@contextmanager
def started(trainer: Trainer, world: World | None = None) -> Iterator[tuple[FakeCuda, Context]]:
    """The method ready to step on the device; its weights are nobody's."""

    def load(teacher: Teacher) -> None:
        teacher.model.eval().requires_grad_(False)
        teacher.checksum = "none"

    with FakeCuda() as cuda, ExitStack() as stack:
        if world is not None and world.size > 1:
            stack.enter_context(fake_processes(world.size, cuda))
        stack.enter_context(patch.object(Teacher, "load", load))
        for module, names in ((distillation, ("start_roles", "initialise")), (teacher_training, ("initialise",))):
            for name in names:
                stack.enter_context(patch.object(module, name))
        for data in (trainer.data, trainer.prompts):
            if data is not None:
                data.open(seed=0, device=CUDA)
        context = trainer.context(world or World(CUDA))
        trainer.method.start(context)
        yield cuda, context
