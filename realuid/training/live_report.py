"""The report of a run at work, written again as the numbers come."""

from __future__ import annotations

import time

from realuid.reports.report import write_report
from realuid.training.loggers import MetricLogger
from realuid.training.run_folder import RunFolder
from realuid.utils.errors import tolerated

__all__ = ["LiveReport"]

SHARE = 0.02
"""Of the run's time that may be spent on it."""


class LiveReport(MetricLogger):
    """Writes `report.html` at every line of metrics.jsonl, or as often as takes no more than a fiftieth of the time."""

    def open(self, folder: RunFolder, images: int) -> None:
        self._folder, self._ended, self._cost = folder, 0.0, 0.0

    def write(self, images: int, numbers: dict[str, float]) -> None:
        start = self._now()
        if start - self._ended < self._cost / SHARE:
            return
        with tolerated("the report"):
            write_report(self._folder.path)
        self._ended = self._now()
        self._cost = self._ended - start

    def close(self) -> None:
        """Leaves the last report to whoever knows how the run ended."""

    @staticmethod
    def _now() -> float:
        return time.monotonic()
