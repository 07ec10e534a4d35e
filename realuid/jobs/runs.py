"""Finding runs again: a finished model ready to be sampled."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid import checkpoints
from realuid import config as configuration
from realuid.checkpoints.files import readable
from realuid.conditions import LABEL, Condition, class_label
from realuid.config import Config, ConfigError
from realuid.data.dataset import Dataset
from realuid.distillation.teachers import Teacher
from realuid.evaluation.inputs import SampleSpec
from realuid.jobs.assembled import assembled
from realuid.jobs.digests import role_digests
from realuid.jobs.first_look import look_at_weights
from realuid.jobs.mistakes import no_run
from realuid.jobs.teacher_runs import adapted, teacher_run
from realuid.models.decoders import Decoder
from realuid.models.matching import matching_model_of
from realuid.networks.no_init_weights import no_init_weights
from realuid.paths.couplings import Coupling
from realuid.paths.interpolants.base import MOST_STEPS
from realuid.samplers import FreshNoise, Sampler
from realuid.training.method import Generator
from realuid.training.run_folder import RunFolder
from realuid.training.trainer import Trainer
from realuid.training.world import device_named
from realuid.utils.building import Building, stored
from realuid.utils.errors import CheckpointError, RunError


@dataclass(frozen=True)
class Model:
    """A model of a run, ready to be sampled."""

    trainer: Trainer
    role: str
    """`student` or `teacher`."""
    generator: Generator
    device: torch.device
    provenance: dict[str, Any]
    """What its values are recorded with: checkpoint, sampler, average, and a digest of all else that it depends on."""
    config: Config
    folder: RunFolder | None
    """Of the run, unless the checkpoint lies elsewhere."""

    @property
    def form(self) -> Dataset:
        return self.trainer.data

    @property
    def coupling(self) -> Coupling:
        return self.trainer.method.coupling


@dataclass(frozen=True)
class Described:
    """The teacher that a gin file describes, with its checkpoint and without a run."""

    teacher: Teacher
    form: SampleSpec
    generator: Generator
    device: torch.device
    provenance: dict[str, Any]
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
    checkpoint = configuration.value(config, "checkpoint")
    if isinstance(checkpoint, str):
        look_at_weights(checkpoint, "Teacher.checkpoint")
    with no_init_weights():
        teacher = assembled(config)
    assert isinstance(teacher, Teacher)
    model = matching_model_of(teacher.model)
    if teacher.checkpoint is None or model is None:
        return None
    teacher.ema = arguments.ema or teacher.ema
    if arguments.steps is not None:
        _set_steps(teacher.sampler, arguments.steps)
    teacher.sampler.times(teacher.model)
    shape = model.network.shape
    if shape is None or len(shape) != 3:
        raise RunError(f"{type(model.network).__name__} does not say the shape of its images: make a run of it")
    device = device_named("auto")
    teacher.load()
    teacher.pack()
    teacher.model.to(device)
    conditions = model.network.conditions
    if teacher.foreign:  # which may have more classes than its network says, or none
        told = tuple(field for field in conditions if field.name != LABEL)
        conditions = (*class_label(teacher.foreign.classes), *told)
    provenance = {"checkpoint": teacher.checkpoint, "sampler": teacher.sampler.name, "ema": teacher.ema}

    def generate(x0: Tensor, condition: Condition, noise: FreshNoise) -> Tensor:
        return decoded(teacher.sampler(teacher.model, x0, condition, noise), teacher.decoder)

    return Described(teacher, SampleSpec(shape, conditions, teacher.encoder), generate, device, provenance)


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
    if not 1 <= steps <= MOST_STEPS:
        raise RunError(f"--steps must be at least 1 and at most {MOST_STEPS:,}, got {steps}")
    sampler.steps = steps


def reopen(arguments: argparse.Namespace, files: Sequence[str] = (), bindings: Sequence[str] = ()) -> Model:
    """The model that the options name, with its weights.

    Args:
        arguments: the parsed options that say which model, see `realuid train --help`.
        files: gin files that are read after the checkpoint's configuration.
        bindings: such as are read last.

    Raises:
        RunError, CheckpointError, ConfigError: if there is no such run, checkpoint, average or role.
    """
    path, folder = _checkpoint(arguments)
    if folder is not None:
        folder.check_links()
    state = checkpoints.load(path)
    if not isinstance(state, dict) or not isinstance(state.get("config"), str):
        raise CheckpointError(f"{path} carries no config: it is no checkpoint of this project")
    config = Config.from_text(
        state["config"], name=Path(path).stem, files=files, bindings=bindings, allowed=_allowed(arguments)
    )
    with Building(stored(state) + adapted(config, folder), "what its configuration describes"):
        trainer = configuration.build(config)
    assert isinstance(trainer, Trainer)
    method, device = trainer.method, device_named(trainer.device)
    if arguments.ema is not None and arguments.ema not in method.ema.names:
        raise CheckpointError(f"there is no average {arguments.ema!r}, only {', '.join(method.ema.names)}")
    as_trained = Config.from_text(state["config"], name=Path(path).stem, allowed=_allowed(arguments) | config.named)
    if method.samples_need_teacher:
        _load_teacher(trainer, as_trained, folder, device)
    with readable(path):
        _check_finite(state["ema"]["weights"], path)
        method.restore(state["ema"], device)
    role = "teacher" if arguments.teacher else next(iter(method.networks()))
    if role == "teacher":
        _ready_teacher(trainer, as_trained, folder, device, arguments)
    elif arguments.steps is not None:
        raise RunError("--steps is for --teacher: the student takes the steps that it was trained with")
    provenance = {"checkpoint": path, "step": state.get("step"), "images": state.get("images"), **method.sampling(role)}
    provenance |= {"model": role_digests(config, method)[role]}
    if arguments.ema is not None:
        provenance |= {"ema": arguments.ema, "weights": checkpoints.checksum(method.ema.averaged(arguments.ema))}
    return Model(trainer, role, method.generators(arguments.ema)[role], device, provenance, config, folder)


def _check_finite(averages: Mapping[str, Mapping[str, Tensor]], path: str) -> None:
    """Raises CheckpointError if a number of an average is none."""
    for name, weights in averages.items():
        if broken := next((key for key, value in weights.items() if not value.isfinite().all()), None):
            raise CheckpointError(f"{path}: the average {name} is broken: {broken} is not finite")


def _allowed(arguments: argparse.Namespace) -> set[str]:
    """Code that the user lets a checkpoint's configuration use."""
    try:
        return {*arguments.allow_import, *(configuration.code_in(arguments.gin) if arguments.gin else ())}
    except ConfigError:  # --gin names the run, whose file may be gone by now
        return set(arguments.allow_import)


def _checkpoint(arguments: argparse.Namespace) -> tuple[str, RunFolder | None]:
    if arguments.model:
        path = Path(arguments.model)
        return arguments.model, RunFolder(path.parent.parent) if path.parent.name == "checkpoints" else None
    folder = RunFolder(arguments.run or Path("runs") / Path(arguments.gin).stem)
    if folder.path.is_file():
        raise RunError(f"{folder} is a file: --run names a run folder, --model a checkpoint")
    steps = folder.store.steps()
    if not steps:
        raise no_run(folder.path)
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
    """Loads the frozen teacher of a distillation; a teacher's own run needs nothing.

    Args:
        trainer: with the teacher to be loaded.
        config: as the run was trained, by which the teacher's run is found whatever is bound now.
        folder: of the run.
        device: for the teacher.
        arguments: the parsed options.
    """
    method = trainer.method
    if arguments.steps is not None:
        _set_steps(method.sampler, arguments.steps)
    teacher = method.teacher
    if teacher is None:
        return
    if arguments.ema is not None:
        raise RunError("--ema chooses an average of the student; the teacher's is bound by Teacher.ema")
    if not method.samples_need_teacher:
        _load_teacher(trainer, config, folder, device)


def _load_teacher(trainer: Trainer, config: Config, folder: RunFolder | None, device: torch.device) -> None:
    """Reads the teacher's weights; arguments as of `_ready_teacher`."""
    teacher = trainer.method.teacher
    assert teacher is not None
    if teacher.needs_weights and teacher.checkpoint is None:
        if folder is None:
            raise RunError("the teacher of a lone checkpoint file is not known: name the run with --run")
        training, found = teacher_run(config, folder)
        if not found.store.steps():
            raise RunError(
                f"{folder.path}: its teacher's run is not beside it: put *_teacher-{training.digest()} there, or bind "
                "Teacher.checkpoint"
            )
        teacher.checkpoint = found.store.newest()
    teacher.load()
    if not trainer.method.samples_need_teacher:
        teacher.pack()
    teacher.model.to(device)
