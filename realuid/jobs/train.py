"""Trains whatever a configuration assembles, a missing teacher first."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from loguru import logger

from realuid import config as configuration
from realuid.config import CodeRefused, Config
from realuid.jobs.assembled import assembled
from realuid.jobs.digests import role_digests
from realuid.jobs.first_look import look_at_run
from realuid.jobs.mistakes import USER_ERRORS
from realuid.jobs.plan import dry_run
from realuid.jobs.started import record_start, record_teacher
from realuid.jobs.teacher_runs import teacher_run, teacher_trainer
from realuid.reports.report import write_report
from realuid.training.live_report import LiveReport
from realuid.training.loop import Loop
from realuid.training.run_folder import RunFolder
from realuid.training.signals import Interrupted, StopSignal
from realuid.training.trainer import Trainer
from realuid.training.world import World, is_lost_peer
from realuid.utils.errors import RunError, out_of_memory, tolerated
from realuid.utils.remote import first_line

LOST_PEER = 1
"""Exit status of a process that another one of the run left alone: torchrun starts all of them again."""


def work(config: Config, arguments: argparse.Namespace, command: Sequence[str]) -> int:
    """Trains what `config` assembles in the run folder of --out; returns the exit status.

    Args:
        config: of --gin and --bind.
        arguments: the options.
        command: as they were typed, for the report.
    """
    if arguments.dry_run:
        print(dry_run(config))
        return 0
    folder = RunFolder(arguments.out or Path("runs") / config.name)
    look_at_run(config, folder)
    if not arguments.fresh:
        _check_same_run(config, folder)
    trainer = assembled(config)
    assert isinstance(trainer, Trainer)
    new = [place for place in _folders(trainer, config, folder) if not place.path.exists()]
    above = [place for place in folder.path.absolute().parents if not place.exists()]
    try:
        world = World.join(trainer.device, trainer.timeout_s)
    except Exception as error:
        if not is_lost_peer(error):
            raise
        logger.error("another process of the run did not come: {}", first_line(error))
        return LOST_PEER
    try:
        if arguments.fresh:
            world.on_main(lambda: _set_aside(folder))
        code = 2
        try:
            code = run(trainer, config, folder, world, command=command)
        finally:
            if code == 2 and world.main:  # a start that failed leaves no folder
                _remove(new, above)
        return code
    finally:
        world.leave()


def _remove(folders: Sequence[RunFolder], above: Sequence[Path]) -> None:
    """Takes run folders away in which nothing was trained, and folders above them that are empty."""
    for folder in folders:
        folder.remove_untrained()
    with suppress(OSError):
        for place in above:
            place.rmdir()


def _folders(trainer: Trainer, config: Config, folder: RunFolder) -> list[RunFolder]:
    """The run's own, and that of the teacher's training if it trains one."""
    teacher = trainer.method.teacher
    trains = teacher is not None and teacher.needs_weights and teacher.checkpoint is None
    return [folder, *([teacher_run(config, folder)[1]] if trains else [])]


def _set_aside(folder: RunFolder) -> None:
    if folder.path.exists():
        with folder.locked():
            logger.info("moved the old {} to {}", folder, folder.set_aside())


def run(
    trainer: Trainer,
    config: Config,
    folder: RunFolder,
    world: World,
    wait: bool = False,
    command: Sequence[str] = (),
) -> int:
    """Trains one assembly in one folder and leaves exit.json and report.html; returns the exit status.

    Where another process is at work in the folder, that is an error, or is waited for.

    Args:
        trainer: assembled from `config`.
        config: what is trained.
        folder: where; seen by all processes of the world.
        world: the processes, which do this together; the first of them writes.
        wait: see above.
        command: arguments of this command, for the report.

    Raises:
        RunError: if the folder holds another run or is in use; it is left as it was.
    """
    with ExitStack() as stack:
        ended = world.on_main(lambda: _enter(stack, trainer, config, folder, wait))
        if ended is not None:
            return ended
        if world.main:
            record_start(folder, world, command)
        trainer.loggers = (*trainer.loggers, LiveReport())
        with StopSignal() as stop:
            code, reason = _outcome(trainer, config, folder, world, stop, command)
        if code == LOST_PEER:
            return code
        if world.main or code in (2, 3):  # a fault may be one process's alone
            with tolerated("exit.json"):
                folder.write_json(folder.exit, {"code": code, "reason": reason})
        if world.main and folder.metrics.exists():
            with tolerated("the report"):
                logger.info("report: {}", write_report(folder.path))
    return code


def _enter(stack: ExitStack, trainer: Trainer, config: Config, folder: RunFolder, wait: bool) -> int | None:
    """Takes the folder; the exit status if there is nothing to do in it."""
    stack.enter_context(folder.locked(wait))
    _check_same_run(config, folder)
    if trainer.complete(folder):
        logger.info("{} is complete", folder)
        return 0
    before = folder.read_json(folder.exit)
    if before and before["code"] in (2, 3) and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
        logger.error("not started again: {}", before["reason"])
        return before["code"]
    folder.keep_checkpoints_at(trainer.checkpoints.folder, config.digest())
    folder.begin(config.text)
    return None


def _outcome(
    trainer: Trainer, config: Config, folder: RunFolder, world: World, stop: StopSignal, command: Sequence[str]
) -> tuple[int, str]:
    try:
        try:
            trainer.method.check(trainer.context(world))  # not after the teacher's training
            if failed := _train_teacher(trainer, config, folder, world, command):
                return failed
            if world.main and trainer.method.teacher is not None and trainer.method.teacher.checkpoint is not None:
                record_teacher(folder, trainer.method.teacher.checkpoint)
            loop = Loop(trainer, world, folder, config.text, role_digests(config, trainer.method))
            loop.resume()
        except (*USER_ERRORS, ValueError) as error:
            logger.error("{}", error)
            return 2, str(error)
        loop.run(stop)
    except Interrupted as interruption:
        logger.warning("{}; {}", interruption, _way_on(folder))
        return interruption.code, str(interruption)
    except USER_ERRORS as error:
        logger.error("{}", error)
        return 3, str(error)
    except Exception as error:
        if is_lost_peer(error):
            logger.error("another process of the run is gone: {}", first_line(error))
            return LOST_PEER, "another process of the run is gone"
        known = out_of_memory(error)
        if known or isinstance(error, (OSError, FloatingPointError)):  # a full disk; a model that gives no pictures
            logger.error("{}; the newest checkpoint in {} stands", known or first_line(error), folder)
            return 3, f"{type(error).__name__}: {error}"
        logger.error("{}\nthe newest checkpoint in {} stands", traceback.format_exc().rstrip(), folder)
        return 3, f"{type(error).__name__}: {error}"
    return 0, "done"


def _way_on(folder: RunFolder) -> str:
    """What the command does if it is given again."""
    with suppress(*USER_ERRORS, OSError):
        if not folder.store.steps():
            return "no step was done yet: the same command begins with the first"
    return "the same command resumes from the newest checkpoint"


def _check_same_run(config: Config, folder: RunFolder) -> None:
    """A folder is resumed only by the run that began it."""
    if not folder.config.exists() or not folder.store.steps():
        return
    try:
        text = folder.config.read_text(encoding="utf-8", errors="replace")
        old = Config.from_text(text, name=str(folder.config), allowed=config.named)
        changed = configuration.differences(old, config)
    except CodeRefused as refusal:
        changed = [f"of {' and '.join(refusal.names)}, which these gin files do not name"]
    if changed:
        raise RunError(
            f"{folder} holds another run ({'; '.join(changed)}): choose another --out, or --fresh to move it aside"
        )


def _train_teacher(
    trainer: Trainer, config: Config, folder: RunFolder, world: World, command: Sequence[str]
) -> tuple[int, str] | None:
    """Trains a teacher that has no checkpoint, or finds what an earlier run left. If its run fails: status, and why."""
    teacher = trainer.method.teacher
    if teacher is None or not teacher.needs_weights or teacher.checkpoint is not None:
        return None
    training, place = world.on_main(lambda: teacher_run(config, folder))
    logger.info("teacher: {}", place)
    training_of_teacher = teacher_trainer(teacher, training)
    if trainer.evaluator and not training_of_teacher.evaluator and trainer.method.decoder is None:
        with world.main_first():
            trainer.data.open(seed=trainer.seed, device=world.device)
        trainer.evaluator.check(trainer.data)
    if code := run(training_of_teacher, training, place, world, wait=True, command=command):
        ended = place.read_json(place.exit) or {}  # read by each process: another one may be gone
        return code, f"the teacher's run: {ended.get('reason', 'it did not end well')}"
    teacher.checkpoint = world.on_main(place.store.newest)
    return None
