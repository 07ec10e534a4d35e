"""Log lines of long work: the first within seconds, so that one sees that it goes on, and when it will end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from loguru import logger

__all__ = ["Progress", "Pulse", "duration", "step_done"]

FIRST_S, EARLY_S, LATER_S = 2.0, 10.0, 30.0
"""Seconds until the first line; between the next ones, in the first minute; and from then on."""


class Pulse:
    """Says when the next line is due: soon after the start, and so long after the line before."""

    def __init__(self) -> None:
        self._start = self._now()
        self._next = self._start + FIRST_S

    def due(self) -> bool:
        """Whether a line is due; the next one then is so much later."""
        if self._now() < self._next:
            return False
        self.shown()
        return True

    def shown(self) -> None:
        """Notes that there is a line now."""
        now = self._now()
        self._next = now + (EARLY_S if now - self._start < 60 else LATER_S)

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start

    @staticmethod
    def _now() -> float:
        return time.monotonic()


class Progress:
    """Counts what is done of something, and says so where it takes longer than a moment.

    Args:
        what: that is counted, as in `images generated`.
        total: how many there will be.
    """

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self._next = 0
        self._pulse = Pulse()

    def advance(self, count: int) -> None:
        """Adds what was done since the last call; logs a line if one is due and there is something left to do."""
        self.done += count
        if self.done < self.total and self._pulse.due():
            logger.info("{:,} of {:,} {}, {} left", self.done, self.total, self.what, self._left(self.done))

    @contextmanager
    def doing(self, count: int) -> Iterator[None]:
        """The next `count` are done inside. `step_done`, called there from however deep, reports on this work."""
        self._next, token = count, _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def step(self, done: int, steps: int) -> None:
        """Logs a line if one is due and `done` of the steps that make the next ones are not all of them."""
        if done >= steps or not self._pulse.due():
            return
        left = self._left(self.done + self._next * done / steps)
        line = "{:,} of {:,} {}, step {:,} of {:,} of the next {:,}, {} left"
        logger.info(line, self.done, self.total, self.what, done, steps, self._next, left)

    def _left(self, done: float) -> str:
        """How long the rest will take, at the speed so far."""
        return duration(self._pulse.spent * (self.total - done) / done)


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


def step_done(done: int, steps: int) -> None:
    """Tells the work that is shown at the moment, if any is, that `done` of `steps` are done of what it is at."""
    if (work := _current.get()) is not None:
        work.step(done, steps)


def duration(seconds: float) -> str:
    """Seconds as one reads them: `4.2 s`, `3 min 20 s`, `2 h 05 min`, `1,200 days` from a hundred hours on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours / 24:,.0f} days"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
