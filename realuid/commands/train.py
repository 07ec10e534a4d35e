"""`tools/train.py`: trains whatever the gin files assemble, a missing teacher first."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from realuid import config as configuration
from realuid.commands.console import USER_ERRORS, guarded
from realuid.commands.plan import dry_run
from realuid.commands.runs import teacher_run
from realuid.config import Config
from realuid.errors import RunError
from realuid.evaluation.report import write_report
from realuid.training.distillation import Distillation
from realuid.training.folder import RunFolder
from realuid.training.signals import Interrupted, StopSignal
from realuid.training.trainer import Trainer


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
        if arguments.fresh and folder.path.exists():
            with folder.locked():
                logger.info("moved the old {} to {}", folder, folder.set_aside())
        return run(config, folder)

    return guarded("train.py", work)


def run(config: Config, folder: RunFolder, wait: bool = False) -> int:
    """Trains one assembly in one folder and leaves exit.json and report.html; returns the exit status.

    Where another process is at work in the folder, that is an error, or is waited for.

    Raises:
        ConfigError, RunError: if the assembly is wrong, or the folder holds another run or is in use; it is left as
            it was.
    """
    trainer = configuration.build(config)
    with folder.locked(wait):
        _check_same_run(config, folder)
        if trainer.complete(folder):
            logger.info("{} is complete", folder)
            return 0
        folder.begin(config.text)
        with StopSignal() as stop:
            code, reason = _outcome(trainer, config, folder, stop)
        folder.write_json(folder.exit, {"code": code, "reason": reason})
        if folder.metrics.exists():
            logger.info("report: {}", write_report(folder.path))
    return code


def _outcome(trainer: Trainer, config: Config, folder: RunFolder, stop: StopSignal) -> tuple[int, str]:
    try:
        try:
            trainer.check_machine()
            if code := _train_teacher(trainer, config, folder):
                return code, "the run of the teacher did not end well"
            trainer.prepare()
            trainer.resume(folder)
        except (*USER_ERRORS, ValueError) as error:
            logger.error("{}", error)
            return 2, str(error)
        trainer.run(folder, config.text, stop)
    except Interrupted as interruption:
        logger.warning("{}; the same command resumes from the newest checkpoint", interruption)
        return interruption.code, str(interruption)
    except USER_ERRORS as error:
        logger.error("{}", error)
        return 3, str(error)
    except Exception as error:
        logger.error("{}\nthe newest checkpoint in {} stands", traceback.format_exc().rstrip(), folder)
        return 3, f"{type(error).__name__}: {error}"
    return 0, "done"


def _check_same_run(config: Config, folder: RunFolder) -> None:
    """A folder is resumed only by the run that began it."""
    if not folder.config.exists() or not folder.checkpoint_steps():
        return
    old = Config.from_text(folder.config.read_text(encoding="utf-8"), name=config.name)
    if changed := configuration.differences(old, config):
        raise RunError(
            f"{folder} holds another run ({'; '.join(changed)}): choose another --out, or --fresh to move it aside"
        )


def _train_teacher(trainer: Trainer, config: Config, folder: RunFolder) -> int:
    """Trains a teacher that has no checkpoint, or finds what an earlier run left."""
    procedure = trainer.procedure
    if not isinstance(procedure, Distillation):
        return 0
    teacher = procedure.teacher
    if not teacher.needs_weights or teacher.checkpoint is not None:
        return 0
    training, place = teacher_run(config, folder)
    logger.info("teacher: {}", place)
    if code := run(training, place, wait=True):
        return code
    teacher.checkpoint = str(place.newest_checkpoint())
    teacher.summary = place.read_json(place.summary)
    return 0
