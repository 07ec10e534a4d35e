"""Reads what a run recorded: JSON files, and the lines of metrics.jsonl as curves."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from realuid.utils import budget
from realuid.utils.old_files import with_keys_of_today

__all__ = ["curve", "measured_as", "number", "read_json", "read_lines", "read_text", "split_name"]


def read_text(path: Path) -> str:
    """The text of a file; empty if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _object(text: str) -> dict[str, Any]:
    """A JSON object, or an empty one if `text` is none: the last line of a killed run may be cut."""
    try:
        value = budget.parsed(text, "it")
    except ValueError:
        return {}
    return with_keys_of_today(value) if isinstance(value, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it is missing or damaged."""
    return _object(read_text(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in a file of one a line, damaged ones left out."""
    return [row for line in read_text(path).splitlines() if (row := _object(line))]


def number(value: object) -> float | None:
    """`value` if it is a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def curve(rows: list[dict[str, Any]], name: str, against: str = "images") -> list[tuple[float, float]]:
    """The points (x, y) of a curve, x ascending.

    A resumed run repeats the lines after its checkpoint. Of two lines with equal images the later one counts.

    Args:
        rows: of metrics.jsonl.
        name: of the values y.
        against: name of the values x.
    """
    points: dict[float, tuple[float, float]] = {}
    for row in rows:
        at, x, y = number(row.get("images")), number(row.get(against)), number(row.get(name))
        if at is not None and x is not None and y is not None:
            points[at] = x, y
    return sorted(points.values())


def measured_as(rows: list[dict[str, Any]], metric: str) -> str:
    """The name of the curve of `metric` for the first average: `<metric>_of_<count>` if evaluations during the run used
    fewer images than the final one."""
    quick = {name for row in rows for name in row if name.startswith(f"{metric}_of_") and "@" not in name}
    return max(quick, key=lambda name: len(curve(rows, name)), default=metric)


def split_name(name: str) -> tuple[str, int | None, str | None]:
    """Splits the name of a curve, such as `student_frechet_of_1000@0.99`.

    Returns:
        The metric; the number of images, None if it is that of the final values; the average, None if it is the first.
    """
    metric, _, average = name.partition("@")
    match = re.fullmatch(r"(.+)_of_(\d+)", metric)
    return (match[1], int(match[2]), average or None) if match else (metric, None, average or None)
