"""`tools/train.py`: trains whatever the gin files assemble, a missing teacher first."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loguru import logger

from realuid import config as configuration
from realuid.commands.console import USER_ERRORS, guarded
from realuid.commands.plan import dry_run
from realuid.commands.runs import teacher_run, teacher_trainer
from realuid.config import Config
from realuid.errors import RunError
from realuid.evaluation.report import write_report
from realuid.training.distillation import Distillation
from realuid.training.folder import RunFolder
from realuid.training.loop import Loop
from realuid.training.signals import Interrupted, StopSignal
from realuid.training.trainer import Trainer
from realuid.training.world import World, is_lost_peer

LOST_PEER = 1
"""Exit status of a process that another one of the run left alone: torchrun starts all of them again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status (0 done, 2 the user's mistake, 3 a fault, 130/143 interrupted)."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__)
    parser.add_argument("--gin", action="append", required=True, metavar="FILE", help="gin file; later ones win")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/<name of the first gin file>)")
    parser.add_argument("--fresh", action="store_true", help="move an existing run folder aside and start anew")
    parser.add_argument("--dry-run", action="store_true", help="assemble, print parts and costs, train nothing")
    arguments = parser.parse_args(argv)

    def work() -> int:
        config = configuration.load(arguments.gin, arguments.bind)
        if arguments.dry_run:
            print(dry_run(config))
            return 0
        folder = RunFolder(arguments.out or Path("runs") / config.name)
        trainer = configuration.build(config)
        assert isinstance(trainer, Trainer)
        try:
            world = World.join(trainer.device, trainer.timeout_s)
        except Exception as error:
            if not is_lost_peer(error):
                raise
            logger.error("another process of the run did not come: {}", _first_line(error))
            return LOST_PEER
        try:
            if arguments.fresh:
                world.on_main(lambda: _set_aside(folder))
            return run(trainer, config, folder, world)
        finally:
            world.leave()

    return guarded("train.py", work)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _set_aside(folder: RunFolder) -> None:
    if folder.path.exists():
        with folder.locked():
            logger.info("moved the old {} to {}", folder, folder.set_aside())


def run(trainer: Trainer, config: Config, folder: RunFolder, world: World, wait: bool = False) -> int:
    """Trains one assembly in one folder and leaves exit.json and report.html; returns the exit status.

    Where another process is at work in the folder, that is an error, or is waited for.

    Args:
        trainer: assembled from `config`.
        config: what is trained.
        folder: where; seen by all processes of the world.
        world: the processes, which do this together; the first of them writes.
        wait: see above.

    Raises:
        RunError: if the folder holds another run or is in use; it is left as it was.
    """
    with ExitStack() as stack:
        ended = world.on_main(lambda: _enter(stack, trainer, config, folder, wait))
        if ended is not None:
            return ended
        with StopSignal() as stop:
            code, reason = _outcome(trainer, config, folder, world, stop)
        if code == LOST_PEER:
            return code
        if world.main or code in (2, 3):  # a fault may be one process's alone
            folder.write_json(folder.exit, {"code": code, "reason": reason})
        if world.main and folder.metrics.exists():
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
    folder.begin(config.text)
    folder.keep_checkpoints_at(trainer.checkpoints.folder)
    return None


def _outcome(trainer: Trainer, config: Config, folder: RunFolder, world: World, stop: StopSignal) -> tuple[int, str]:
    try:
        try:
            trainer.procedure.check(trainer.context(world))  # not after the teacher's training
            if failed := _train_teacher(trainer, config, folder, world):
                return failed
            loop = Loop(trainer, world)
            loop.resume(folder)
        except (*USER_ERRORS, ValueError) as error:
            logger.error("{}", error)
            return 2, str(error)
        loop.run(folder, config.text, stop)
    except Interrupted as interruption:
        logger.warning("{}; the same command resumes from the newest checkpoint", interruption)
        return interruption.code, str(interruption)
    except USER_ERRORS as error:
        logger.error("{}", error)
        return 3, str(error)
    except Exception as error:
        if is_lost_peer(error):
            logger.error("another process of the run is gone: {}", _first_line(error))
            return LOST_PEER, "another process of the run is gone"
        logger.error("{}\nthe newest checkpoint in {} stands", traceback.format_exc().rstrip(), folder)
        return 3, f"{type(error).__name__}: {error}"
    return 0, "done"


def _check_same_run(config: Config, folder: RunFolder) -> None:
    """A folder is resumed only by the run that began it."""
    if not folder.config.exists() or not folder.store.steps():
        return
    old = Config.from_text(folder.config.read_text(encoding="utf-8"), name=config.name)
    if changed := configuration.differences(old, config):
        raise RunError(
            f"{folder} holds another run ({'; '.join(changed)}): choose another --out, or --fresh to move it aside"
        )


def _train_teacher(trainer: Trainer, config: Config, folder: RunFolder, world: World) -> tuple[int, str] | None:
    """Trains a teacher that has no checkpoint, or finds what an earlier run left. If its run fails: status, and why."""
    procedure = trainer.procedure
    if not isinstance(procedure, Distillation):
        return None
    teacher = procedure.teacher
    if not teacher.needs_weights:
        return None
    if (given := teacher.checkpoint) is not None:  # the run that made it may have measured it already
        made_by = RunFolder(Path(given).absolute().parent.parent)
        teacher.summary = world.on_main(lambda: made_by.read_json(made_by.summary))
        return None
    training, place = world.on_main(lambda: teacher_run(config, folder))
    logger.info("teacher: {}", place)
    if code := run(teacher_trainer(teacher, training), training, place, world, wait=True):
        ended = place.read_json(place.exit) or {}  # read by each process: another one may be gone
        return code, f"the teacher's run: {ended.get('reason', 'it did not end well')}"
    teacher.checkpoint = world.on_main(place.store.newest)
    teacher.summary = world.on_main(lambda: place.read_json(place.summary))
    return None
