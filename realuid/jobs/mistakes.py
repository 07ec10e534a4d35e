"""Mistakes of the user that commands answer with one line. Imports nothing heavy: the command line needs it."""

from __future__ import annotations

from pathlib import Path

from realuid.config import ConfigError
from realuid.utils.errors import CheckpointError, DataError, RunError

__all__ = ["USER_ERRORS", "no_run"]

USER_ERRORS = (ConfigError, DataError, CheckpointError, RunError)
"""Exceptions that mean such a mistake: one line on the terminal, exit status 2."""


def no_run(folder: Path | str) -> RunError:
    """What is raised of a folder that holds no checkpoint of a run."""
    return RunError(f"{folder} is no run with a checkpoint: train it first, or name another with --run")
