"""Stopping at a step boundary when the system or the user asks for it."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignal:
    """Notes SIGINT and SIGTERM while it is entered; a second one acts at once.

    `number` is the signal that came, or None.
    """

    number: int | None = None

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        else:
            self._previous = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for s, handler in self._previous.items():
            signal.signal(s, handler)


class Interrupted(Exception):
    """The run was asked to stop and saved its state.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.code = 128 + number
