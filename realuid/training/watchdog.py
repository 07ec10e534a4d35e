"""Ends a process whose step hangs, for instance in a collective that waits for a lost peer, or in a stalled read."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Ends the process with status 1, so that torchrun may start it again from the newest checkpoint.

    Args:
        seconds: how long a step may take.
        tell: called with the reason before the end.
    """

    def __init__(self, seconds: float, tell: Callable[[str], None]) -> None:
        self.seconds, self.tell = seconds, tell

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the step `number`."""
        timer = threading.Timer(self.seconds, self._end, args=(number,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self, number: int) -> None:
        faulthandler.dump_traceback(2)  # where every thread stands
        self.tell(f"step {number} did not end within {self.seconds:g} s")
        os._exit(1)
