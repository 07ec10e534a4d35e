"""Mistakes that end a run with one line instead of a traceback, and faults that do not end it."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger

from realuid.utils.printed import plain

__all__ = ["CheckpointError", "DataError", "RunError", "out_of_memory", "tolerated"]


class _OneLine(Exception):
    """Whatever the names in its message hold."""

    def __init__(self, message: object) -> None:
        super().__init__(plain(str(message)))


class DataError(_OneLine):
    """The data or its place is wrong; one line."""


class CheckpointError(_OneLine):
    """A checkpoint is missing, damaged or does not fit; one line."""


class RunError(_OneLine):
    """A run folder cannot be used as asked; one line."""


@contextmanager
def tolerated(what: str) -> Iterator[None]:
    """A file that a run can do without: if it cannot be written, the log says so and the run goes on."""
    try:
        yield
    except OSError as error:
        logger.error("{} cannot be written: {}", what, error)


def out_of_memory(error: BaseException) -> str | None:
    """One line for an error that says that memory is not enough, of this machine or of a device; None for others."""
    line = str(error).strip().partition("\n")[0]
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in line:
        return f"the memory is not enough: a smaller network or Trainer.micro_batch needs less ({line:.200})"
    return None
