"""The training of a distillation's teacher: its run folder, and its assembly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from realuid import config as configuration
from realuid.config import Config, ConfigError
from realuid.config.language import Reference
from realuid.jobs.assembled import assembled
from realuid.training.method import NeededTeacher
from realuid.training.run_folder import RunFolder
from realuid.training.trainer import Trainer
from realuid.utils.remote import bytes_at


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
            "teacher/Trainer.method = @TeacherTraining() and what else its training needs"
        )
    place, digest = folder.path.parent, training.digest()
    for found in (*sorted(place.glob(f"*_teacher-{digest}")), *_trained_alike(place, training)):
        return training, RunFolder(found)
    return training, RunFolder(place / f"{training.name}-{digest}")


def _trained_alike(place: Path, training: Config) -> Iterator[Path]:
    """Teachers of version 0.1, whose names hold the hash of the names of then, by what their config.gin binds."""
    for found in sorted(place.glob("*_teacher-*")):
        try:
            text = RunFolder(found).config.read_text(encoding="utf-8")
            if not configuration.differences(Config.from_text(text, found.name, allowed=training.named), training):
                yield found
        except (OSError, ValueError, ConfigError):
            continue  # of another version, or cut short


def teacher_trainer(teacher: NeededTeacher, training: Config, assemble: Callable[[Config], Any] = assembled) -> Trainer:
    """Assembles the training of a distillation's teacher.

    Args:
        teacher: of the distillation.
        training: what is assembled.
        assemble: `outlined` where no weights are needed.

    Raises:
        ConfigError: if it does not keep the average that the distillation takes.
    """
    trainer = assemble(training)
    assert isinstance(trainer, Trainer)
    names = trainer.method.ema.names
    if teacher.ema is not None and teacher.ema not in names:
        raise ConfigError(f"Teacher.ema = {teacher.ema!r}, but teacher/EMA.decays keeps {', '.join(map(repr, names))}")
    return trainer


def adapted(config: Config, folder: RunFolder | None) -> int:
    """Bytes of the teacher's checkpoint where the run's networks are adapters of it (`LoRA`), else 0: the run's own
    checkpoints hold the adapters alone."""
    if not any(isinstance(one.value, Reference) and one.value.name == "LoRA" for one in config.table.values()):
        return 0
    place = configuration.value(config, "method", "teacher", "checkpoint")
    if place is None and folder is not None:
        place = teacher_run(config, folder)[1].store.newest()
    return bytes_at(place) if isinstance(place, str) else 0
