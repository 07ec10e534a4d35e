"""`tools/check.py`: proves a framework on Gaussians with exact networks; a table, and status 1 if a row fails."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from loguru import logger

from realuid import config as configuration
from realuid.check.framework import check
from realuid.check.table import Note, Row, failed, failure
from realuid.commands.console import guarded
from realuid.config import Config, ConfigError
from realuid.networks.unweighted import Unweighted
from realuid.training.trainer import Trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 if every row holds, 1 if not, 2 if the gin file cannot be read."""
    parser = argparse.ArgumentParser(prog="check.py", description=__doc__)
    parser.add_argument("--gin", action="append", required=True, metavar="FILE", help="gin file; later ones win")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    arguments = parser.parse_args(argv)

    def work() -> int:
        config = configuration.load(arguments.gin, arguments.bind)
        torch.set_num_threads(1)
        rows = rows_of(config)
        print("\n".join(map(str, rows)))
        count, bad = sum(isinstance(row, Row) for row in rows), failed(rows)
        if bad:
            print(f"\n{len(bad)} of {count} checks failed, first: {bad[0].what}. {bad[0].note}".rstrip())
            return 1
        print(f"\nall {count} checks hold")
        return 0

    return guarded("check.py", work)


def rows_of(config: Config) -> list[Row | Note]:
    """The rows for an assembly; one that is refused has a single row, with the reason."""
    try:
        with Unweighted():
            trainer = configuration.build(config)
    except ConfigError as error:
        return [failure("assembly", str(error))]
    assert isinstance(trainer, Trainer)
    logger.debug("checking {}", config.name)
    return check(trainer.procedure)
