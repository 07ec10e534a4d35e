"""Finding runs again: the folder of a teacher's recipe, and a finished model ready to be sampled."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from realuid import checkpoints
from realuid import config as configuration
from realuid.config import Config, ConfigError
from realuid.errors import CheckpointError, RunError
from realuid.training.distillation import Distillation
from realuid.training.folder import RunFolder
from realuid.training.procedure import Generator
from realuid.training.trainer import Trainer, device_named


def teacher_run(trainer: Trainer, config: Config, folder: RunFolder) -> tuple[Config, RunFolder]:
    """The recipe of a distillation's teacher, as it is run for it, and its folder: beside `folder`, named by recipe and
    hash of what changes its result.

    Args:
        trainer: the distillation, built from `config`.
        config: its configuration.
        folder: its run folder.

    Raises:
        ConfigError: if the recipe or an override is wrong, or it trains another model than `Teacher.model`.
    """
    assert isinstance(trainer.procedure, Distillation)
    teacher = trainer.procedure.teacher
    assert teacher.recipe is not None
    machine = {"Trainer.device": trainer.device, "Trainer.threads": trainer.threads}
    overrides = [f"{name} = {value!r}" for name, value in (machine | teacher.overrides).items()]
    try:
        recipe = configuration.load([teacher.recipe], overrides)
    except ConfigError as error:
        raise ConfigError(f"Teacher.recipe = {teacher.recipe!r}: {error}") from None
    mine = configuration.part(config, "procedure", "teacher", "model")
    its = configuration.part(recipe, "procedure", "model")
    for ours, theirs in zip_longest(mine, its, fillvalue="nothing"):
        if ours != theirs:
            raise ConfigError(
                f"Teacher.recipe = {teacher.recipe!r} trains another model than Teacher.model: {theirs.strip()} there, "
                f"{ours.strip()} here; bind it in both, for instance by Teacher.overrides"
            )
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
    config = Config.from_text(state["config"], name=Path(path).stem)
    trainer = configuration.build(config)
    assert isinstance(trainer, Trainer)
    procedure, device = trainer.procedure, device_named(trainer.device)
    if arguments.ema is not None and arguments.ema not in procedure.ema.names:
        raise CheckpointError(f"there is no average {arguments.ema!r}, only {', '.join(procedure.ema.names)}")
    procedure.restore(state["ema"], device)
    role = "teacher" if arguments.teacher else next(iter(procedure.networks()))
    if role == "teacher":
        _ready_teacher(trainer, config, folder, device, arguments)
    elif arguments.steps is not None:
        raise RunError("--steps is for --teacher: the student has one step")
    stamp = {"checkpoint": path, **procedure.sampling(role)}
    if arguments.ema is not None and stamp["ema"] is not None:
        stamp["ema"] = arguments.ema
    return Model(trainer, role, procedure.generators(arguments.ema)[role], device, stamp)


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


def _ready_teacher(
    trainer: Trainer, config: Config, folder: RunFolder | None, device: torch.device, arguments: argparse.Namespace
) -> None:
    """Loads the frozen teacher of a distillation; a teacher's own run needs nothing."""
    procedure = trainer.procedure
    if arguments.steps is not None:
        if arguments.steps < 1:
            raise RunError(f"--steps must be at least 1, got {arguments.steps}")
        procedure.sampler.steps = arguments.steps
    if not isinstance(procedure, Distillation):
        return
    if arguments.ema is not None:
        raise RunError("--ema chooses an average of the student; the teacher's is bound by Teacher.ema")
    teacher = procedure.teacher
    if teacher.needs_weights and teacher.checkpoint is None:
        if folder is None:
            raise RunError("the teacher of a lone checkpoint file is not known: name the run with --run")
        teacher.checkpoint = str(teacher_run(trainer, config, folder)[1].newest_checkpoint())
    teacher.load()
    teacher.model.to(device)
