"""Stopping when the system or the user asks for it: at a step boundary while stepping, at once elsewhere."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.code = 128 + number


class StopSignal:
    """Turns SIGINT and SIGTERM into `Interrupted` while it is entered.

    Inside `deferred` the first signal is only noted in `number`, so that the step can be finished and saved; a second
    one acts at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._deferred = False
        self._process = os.getpid()

    def __enter__(self) -> StopSignal:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            raise SystemExit(128 + number)  # a forked reader of data
        if not self._deferred or self.number is not None:
            raise Interrupted(number)
        self.number = number
        os.write(2, b"stopping after this step\n")  # the log may be in use where the signal came
