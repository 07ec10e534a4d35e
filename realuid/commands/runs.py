"""Finding runs again: the folder of a teacher's recipe, and a finished model ready to be sampled."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from realuid import checkpoints
from realuid import config as configuration
from realuid.config import Config, ConfigError
from realuid.errors import CheckpointError, RunError
from realuid.teachers import Teacher
from realuid.training.distillation import Distillation
from realuid.training.folder import RunFolder
from realuid.training.procedure import Generator
from realuid.training.trainer import Trainer, device_named


def teacher_run(teacher: Teacher, folder: RunFolder) -> tuple[Config, RunFolder]:
    """The teacher's recipe as it is run for this teacher, and its folder beside `folder`, named by recipe and hash.

    Raises:
        ConfigError: if the recipe or an override is wrong.
    """
    assert teacher.recipe is not None
    overrides = [f"{name} = {value!r}" for name, value in teacher.overrides.items()]
    try:
        recipe = configuration.load([teacher.recipe], overrides)
    except ConfigError as error:
        raise ConfigError(f"Teacher.recipe = {teacher.recipe!r}: {error}") from None
    return recipe, RunFolder(folder.path.parent / f"{recipe.name}-{recipe.digest()}")


@dataclass(frozen=True)
class Model:
    """A model of a run, ready to be sampled."""

    trainer: Trainer
    role: str
    """`student` or `teacher`."""
    generator: Generator
    device: torch.device
    stamp: dict[str, Any]
    """What its figures are stamped with: checkpoint, sampler and average."""
    folder: RunFolder | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which model is meant."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="DIR", help="a run folder")
    which.add_argument("--gin", metavar="FILE", help="a gin file: the run folder that train.py gives it by default")
    which.add_argument("--model", metavar="FILE", help="a checkpoint file, which carries its own config")
    parser.add_argument("--checkpoint", type=int, metavar="N", help="step of the checkpoint (default: the newest)")
    parser.add_argument("--ema", metavar="NAME", help="which average, for instance 0.999 (default: the first)")
    parser.add_argument("--teacher", action="store_true", help="the teacher in many steps instead of the student")
    parser.add_argument("--steps", type=int, help="number of the teacher's steps (default: as bound)")
    parser.add_argument("--seed", type=int, default=0, help="of noise and labels; image i depends on (seed, i) alone")


def reopen(arguments: argparse.Namespace) -> Model:
    """The model that the options name, with its weights.

    Raises:
        RunError, CheckpointError, ConfigError: if there is no such run, checkpoint, average or role.
    """
    path, folder = _checkpoint(arguments)
    state = checkpoints.load(path)
    if "config" not in state:
        raise CheckpointError(f"{path} carries no config: it is no checkpoint of this project")
    trainer = configuration.build(Config.from_text(state["config"], name=Path(path).stem))
    assert isinstance(trainer, Trainer)
    procedure, device = trainer.procedure, device_named(trainer.device)
    if arguments.ema is not None and arguments.ema not in procedure.ema.names:
        raise CheckpointError(f"there is no average {arguments.ema!r}, only {', '.join(procedure.ema.names)}")
    procedure.restore(state["ema"], device)
    role = "teacher" if arguments.teacher else next(iter(procedure.networks()))
    if role == "teacher":
        _ready_teacher(trainer, folder, device, arguments.steps)
    elif arguments.steps is not None:
        raise RunError("--steps is for --teacher: the student has one step")
    stamp = {"checkpoint": path, **procedure.sampling(role)}
    if arguments.ema is not None and stamp["ema"] is not None:
        stamp["ema"] = arguments.ema
    return Model(trainer, role, procedure.generators(arguments.ema)[role], device, stamp, folder)


def _checkpoint(arguments: argparse.Namespace) -> tuple[str, RunFolder | None]:
    if arguments.model:
        path = Path(arguments.model)
        return arguments.model, RunFolder(path.parent.parent) if path.parent.name == "checkpoints" else None
    folder = RunFolder(arguments.run or Path("runs") / Path(arguments.gin).stem)
    steps = folder.checkpoint_steps()
    if not steps:
        raise RunError(f"{folder} is no run with a checkpoint: train it first, or name another with --run")
    if arguments.checkpoint is None:
        return str(folder.newest_checkpoint()), folder
    if arguments.checkpoint not in steps:
        raise CheckpointError(f"{folder} has no checkpoint of step {arguments.checkpoint}, only {steps}")
    return str(folder.checkpoint(arguments.checkpoint)), folder


def _ready_teacher(trainer: Trainer, folder: RunFolder | None, device: torch.device, steps: int | None) -> None:
    """Loads the frozen teacher of a distillation; a teacher's own run needs nothing."""
    procedure = trainer.procedure
    if steps is not None:
        procedure.sampler.steps = steps
    if not isinstance(procedure, Distillation):
        return
    teacher = procedure.teacher
    if teacher.needs_weights and teacher.checkpoint is None:
        if folder is None:
            raise RunError("the teacher of a lone checkpoint file is not known: name the run with --run")
        place = teacher_run(teacher, folder)[1]
        teacher.checkpoint, teacher.summary = str(place.newest_checkpoint()), place.read_json(place.summary)
    teacher.load()
    teacher.model.to(device)
