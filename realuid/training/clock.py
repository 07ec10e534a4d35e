"""Wall time of a run, and its speed."""

from __future__ import annotations

import time


class Clock:
    """Seconds of a run over all its sessions, and images a second since the last question."""

    def __init__(self, seconds: float, images: int) -> None:
        self.before, self.images, self.first = seconds, images, images
        self.started = self.asked = time.perf_counter()

    def wall(self) -> float:
        return self.before + time.perf_counter() - self.started

    def speed(self, images: int) -> float:
        """Images a second between this call and the one before, or the start."""
        now = time.perf_counter()
        speed = (images - self.images) / (now - self.asked)
        self.images, self.asked = images, now
        return speed

    def mean_speed(self, images: int) -> float:
        """Images a second since the start, whatever `speed` was asked for."""
        return (images - self.first) / (time.perf_counter() - self.started)
