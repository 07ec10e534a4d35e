"""What a run wrote down as it went: the lines of metrics.jsonl, as curves."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

__all__ = ["curve", "measured_as", "number", "read_json", "read_lines", "read_text", "split_name"]


def read_text(path: Path) -> str:
    """The text of a file; empty if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _object(text: str) -> dict[str, Any]:
    """A JSON object, or an empty one if `text` is none: the last line of a killed run may be cut."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


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
    """The points (x, y) of `name`, x ascending. By images: a resumed run repeats the lines after its checkpoint, and
    the later line counts."""
    points: dict[float, tuple[float, float]] = {}
    for row in rows:
        at, x, y = number(row.get("images")), number(row.get(against)), number(row.get(name))
        if at is not None and x is not None and y is not None:
            points[at] = x, y
    return sorted(points.values())


def measured_as(rows: list[dict[str, Any]], figure: str) -> str:
    """The name of the first average's curve of `figure`: `<figure>_of_<count>` where fewer images were generated during
    the run than at its end."""
    quick = {name for row in rows for name in row if name.startswith(f"{figure}_of_") and "@" not in name}
    return max(quick, key=lambda name: len(curve(rows, name)), default=figure)


def split_name(name: str) -> tuple[str, int | None, str | None]:
    """A curve's name, `student_frechet_of_1000@0.99`, as the figure, the number of images if it is not that of the
    final figures, and the average if it is not the first."""
    figure, _, average = name.partition("@")
    match = re.fullmatch(r"(.+)_of_(\d+)", figure)
    return (match[1], int(match[2]), average or None) if match else (figure, None, average or None)
