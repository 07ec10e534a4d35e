"""Proves a framework on Gaussians with exact networks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from loguru import logger

from realuid.check.framework import check, teacher_rows
from realuid.check.network import cautions
from realuid.check.rehearsal import rehearse
from realuid.check.table import Caution, Note, Row, failed, failure
from realuid.check.updates import update_rows
from realuid.config import Config, ConfigError
from realuid.distillation.teacher_training import TeacherTraining
from realuid.jobs.assembled import outlined
from realuid.training.trainer import Trainer


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Checks a framework and prints the table; returns the exit status: 0 if every row holds, 1 if not."""
    torch.set_num_threads(1)
    rows = rows_of(config, arguments.dimensions)
    if arguments.rehearse and not failed(rows):
        rows += rehearsal_rows(config)
    print("\n".join(map(str, rows)))
    count, bad = sum(isinstance(row, Row) for row in rows), failed(rows)
    if bad:
        print(f"\n{len(bad)} of {count} checks failed, first: {bad[0].what}. {bad[0].note}".rstrip())
        return 1
    print(f"\nall {count} checks hold{_warned(len(cautions(rows)))}")
    return 0


def _warned(count: int) -> str:
    """How many warnings there are beside what holds."""
    if not count:
        return ""
    return f", with {count} warning{'s' if count > 1 else ''}: networks are likely to fail where exact models do not"


def rows_of(config: Config, dimensions: Sequence[int] = (1,)) -> list[Row | Note | Caution]:
    """The rows for an assembly; one that is refused has a single row, with the reason."""
    try:
        trainer, teacher = outlined(config), _teacher_of(config)
    except ConfigError as error:
        return [failure("assembly", str(error))]
    assert isinstance(trainer, Trainer)
    logger.debug("checking {}", config.name)
    rows: list[Row | Note | Caution] = [*update_rows(trainer)]
    if teacher is not None:
        assert isinstance(teacher.method, TeacherTraining)
        rows += [*update_rows(teacher, "teacher/"), *cautions(teacher_rows(teacher.method))]
    return rows + check(trainer.method, dimensions)


def rehearsal_rows(config: Config) -> list[Row | Note | Caution]:
    """The rows of a short training under the framework.

    Raises:
        RunError: if it cannot be had on digits.
    """
    trainer, teacher = outlined(config), _teacher_of(config)
    assert isinstance(trainer, Trainer)
    try:
        return rehearse(trainer, teacher).rows
    except ValueError as error:
        return [failure("rehearsal", str(error))]


def _teacher_of(config: Config) -> Trainer | None:
    """The teacher's training, where the same file binds one."""
    training = config.rooted("teacher")
    if training is None:
        return None
    trainer = outlined(training)
    assert isinstance(trainer, Trainer)
    return trainer
