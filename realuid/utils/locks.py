"""Locks on files, held by one process until it lets go of them or ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

_held: set[int] = set()


@contextmanager
def locked(file: int, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a file, and closes it afterwards. The system gives the lock back if the process dies.

    A process that is forked meanwhile does not hold the lock. Otherwise the workers of a data set would keep it for as
    long as they live, also after the process that took it let go of it or was killed.

    Args:
        file: descriptor of the open file.
        wait: whether to wait for a process that holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough while a process is being forked
    finally:
        os.close(file)


def _leave_to_the_parent() -> None:
    """In a forked process: its descriptors are those of other files from now on, so that it may close them as well."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in _held:
        os.dup2(nothing, file)
    os.close(nothing)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
