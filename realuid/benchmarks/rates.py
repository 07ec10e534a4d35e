"""Images a second of processor time and of the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

Row = tuple[str, float, float]
"""What was measured, images a second a core, images a second by the clock."""


def measured(step: Callable[[], int], seconds: float, others: Callable[[], float] = lambda: 0.0) -> tuple[float, float]:
    """Images a second of processor time and of the clock; `step` returns how many images it read."""
    for _ in range(3):
        step()
    count, wall, cpu = 0, time.perf_counter(), time.process_time() + others()
    while not count or time.perf_counter() - wall < seconds:
        count += step()
    spent = time.process_time() + others() - cpu
    return count / spent, count / (time.perf_counter() - wall)


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title}")
    print(f"  {'':<48}{'images/s a core':>16}{'wall':>12}")
    for name, core, wall in rows:
        print(f"  {name:<48}{core:>16,.0f}{wall:>12,.0f}")
