"""Finding runs again: the folder of a teacher's recipe, and a finished model ready to be sampled."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid import checkpoints
from realuid import config as configuration
from realuid.config import Config, ConfigError
from realuid.couplings import Coupling
from realuid.data.dataset import Dataset
from realuid.decoders import Decoder
from realuid.errors import CheckpointError, RunError
from realuid.evaluation.inputs import Form
from realuid.matching import matching_model_of
from realuid.networks.unweighted import Unweighted
from realuid.samplers import FreshNoise, Sampler
from realuid.teachers import Teacher
from realuid.training.distillation import Distillation
from realuid.training.folder import RunFolder
from realuid.training.procedure import Generator
from realuid.training.trainer import Trainer
from realuid.training.world import device_named


def teacher_run(config: Config, folder: RunFolder) -> tuple[Config, RunFolder]:
    """The training of a distillation's teacher, which the same gin file binds in the scope `teacher/`, and its run
    folder: beside `folder`, named by the gin file and a hash of what changes the result. One that another gin file has
    made in the same place serves as well.

    Args:
        config: of the distillation.
        folder: its run folder.

    Raises:
        ConfigError: if the gin file trains no teacher.
    """
    training = config.rooted("teacher")
    if training is None:
        raise ConfigError(
            f"{config.name}: the teacher has no weights: bind Teacher.checkpoint (a file of them), or "
            "teacher/Trainer.procedure = @TeacherTraining() and what else its training needs"
        )
    place, digest = folder.path.parent, training.digest()
    for found in sorted(place.glob(f"*_teacher-{digest}")):
        return training, RunFolder(found)
    return training, RunFolder(place / f"{training.name}-{digest}")


def teacher_trainer(teacher: Teacher, training: Config) -> Trainer:
    """Assembles the training of a distillation's teacher.

    Raises:
        ConfigError: if it does not keep the average that the distillation takes.
    """
    trainer = configuration.build(training)
    assert isinstance(trainer, Trainer)
    names = trainer.procedure.ema.names
    if teacher.ema is not None and teacher.ema not in names:
        raise ConfigError(f"Teacher.ema = {teacher.ema!r}, but teacher/EMA.decays keeps {', '.join(map(repr, names))}")
    return trainer


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
    config: Config
    folder: RunFolder | None
    """Of the run, unless the checkpoint lies elsewhere."""

    @property
    def form(self) -> Dataset:
        return self.trainer.data

    @property
    def coupling(self) -> Coupling:
        return self.trainer.procedure.coupling


@dataclass(frozen=True)
class Described:
    """The teacher that a gin file describes, with its checkpoint and without a run."""

    teacher: Teacher
    form: Form
    generator: Generator
    device: torch.device
    stamp: dict[str, Any]
    role: str = "teacher"

    @property
    def coupling(self) -> Coupling:
        return self.teacher.model.coupling


def described(arguments: argparse.Namespace, bindings: Sequence[str] = ()) -> Described | None:
    """The teacher of a gin file that has no run: of one that describes nothing but a teacher and its checkpoint
    (gin/teachers/), or with --teacher that of a recipe. None if the options mean a run.

    Raises:
        ConfigError, CheckpointError, RunError: if the file or the checkpoint is wrong.
    """
    if arguments.gin is None or RunFolder(Path("runs") / Path(arguments.gin).stem).store.steps():
        return None
    config = configuration.load_part(arguments.gin, bindings, root="Teacher")
    if config.whole and not arguments.teacher:
        return None
    with Unweighted():
        teacher = configuration.build(config)
    assert isinstance(teacher, Teacher)
    model = matching_model_of(teacher.model)
    if teacher.checkpoint is None or model is None:
        return None
    teacher.ema = arguments.ema or teacher.ema
    if arguments.steps is not None:
        _set_steps(teacher.sampler, arguments.steps)
    teacher.sampler.times(teacher.model)
    shape = getattr(model.network, "shape", None)
    if shape is None:
        raise RunError(f"{type(model.network).__name__} does not say the shape of its images: make a run of it")
    device = device_named("auto")
    teacher.load()
    teacher.model.to(device)
    classes = teacher.foreign.classes if teacher.foreign else getattr(model.network, "classes", 0)
    stamp = {"checkpoint": teacher.checkpoint, "sampler": teacher.sampler.name, "ema": teacher.ema}

    def generate(x0: Tensor, labels: Tensor, noise: FreshNoise) -> Tensor:
        return decoded(teacher.sampler(teacher.model, x0, labels, noise), teacher.decoder)

    return Described(teacher, Form(tuple(shape), classes), generate, device, stamp)


def decoded(samples: Tensor, decoder: Decoder | None) -> Tensor:
    """Pictures from samples: these themselves, or what the decoder makes of latents.

    Raises:
        RunError: if they are latents and there is no decoder.
    """
    if decoder is not None:
        return decoder(samples)
    if samples.shape[1] not in (1, 3):
        raise RunError(
            f"the samples are latents of {samples.shape[1]} channels: bind Teacher.decoder = @DiffusersDecoder() and "
            "DiffusersDecoder.folder for pictures"
        )
    return samples


def _set_steps(sampler: Sampler, steps: int) -> None:
    if steps < 1:
        raise RunError(f"--steps must be at least 1, got {steps}")
    sampler.steps = steps


def add_arguments(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """The options that say which model is meant; returns the group of which one must be given."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="DIR", help="a run folder")
    which.add_argument(
        "--gin",
        metavar="FILE",
        help="a gin file: the run folder that train.py gives it, or the teacher that it describes",
    )
    which.add_argument("--model", metavar="FILE", help="a checkpoint file, which carries its own config")
    parser.add_argument(
        "--checkpoint", type=_step, metavar="N", help="step of the checkpoint, or `best` (default: the newest)"
    )
    parser.add_argument("--ema", metavar="NAME", help="which average, for instance 0.999 (default: the first)")
    parser.add_argument("--teacher", action="store_true", help="the teacher in many steps instead of the student")
    parser.add_argument("--steps", type=int, help="number of the teacher's steps (default: as bound)")
    parser.add_argument("--seed", type=int, default=0, help="of noise and labels; image i depends on (seed, i) alone")
    return which


def _step(text: str) -> int | str:
    return text if text == "best" else int(text)


def reopen(arguments: argparse.Namespace, override: str = "") -> Model:
    """The model that the options name, with its weights.

    Args:
        arguments: the parsed options of `add_arguments`.
        override: gin statements that are read after those of the checkpoint.

    Raises:
        RunError, CheckpointError, ConfigError: if there is no such run, checkpoint, average or role.
    """
    path, folder = _checkpoint(arguments)
    state = checkpoints.load(path)
    if "config" not in state:
        raise CheckpointError(f"{path} carries no config: it is no checkpoint of this project")
    config = Config.from_text(f"{state['config']}\n{override}", name=Path(path).stem)
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
    stamp = {"checkpoint": path, "step": state.get("step"), "images": state.get("images"), **procedure.sampling(role)}
    if arguments.ema is not None:
        stamp |= {"ema": arguments.ema, "weights": checkpoints.checksum(procedure.ema.averaged(arguments.ema))}
    return Model(trainer, role, procedure.generators(arguments.ema)[role], device, stamp, config, folder)


def _checkpoint(arguments: argparse.Namespace) -> tuple[str, RunFolder | None]:
    if arguments.model:
        path = Path(arguments.model)
        return arguments.model, RunFolder(path.parent.parent) if path.parent.name == "checkpoints" else None
    folder = RunFolder(arguments.run or Path("runs") / Path(arguments.gin).stem)
    steps = folder.store.steps()
    if not steps:
        raise RunError(f"{folder} is no run with a checkpoint: train it first, or name another with --run")
    if arguments.checkpoint == "best":
        if not checkpoints.exists(folder.store.best):
            raise CheckpointError(f"{folder} has no best checkpoint: it was never evaluated during training")
        return folder.store.best, folder
    if arguments.checkpoint is None:
        return folder.store.newest(), folder
    if arguments.checkpoint not in steps:
        raise CheckpointError(f"{folder} has no checkpoint of step {arguments.checkpoint}, only {steps}")
    return folder.store.path(arguments.checkpoint), folder


def _ready_teacher(
    trainer: Trainer, config: Config, folder: RunFolder | None, device: torch.device, arguments: argparse.Namespace
) -> None:
    """Loads the frozen teacher of a distillation; a teacher's own run needs nothing."""
    procedure = trainer.procedure
    if arguments.steps is not None:
        _set_steps(procedure.sampler, arguments.steps)
    if not isinstance(procedure, Distillation):
        return
    if arguments.ema is not None:
        raise RunError("--ema chooses an average of the student; the teacher's is bound by Teacher.ema")
    teacher = procedure.teacher
    if teacher.needs_weights and teacher.checkpoint is None:
        if folder is None:
            raise RunError("the teacher of a lone checkpoint file is not known: name the run with --run")
        teacher.checkpoint = teacher_run(config, folder)[1].store.newest()
    teacher.load()
    teacher.model.to(device)
