"""Stamps: what a figure was measured with, and what of. Figures of different measurements never meet in code.

A stamp is a flat dict. Its measurement is everything that says how was measured: network, weights' checksum, resizing,
number of images, seed, reference, settings of the metric. The rest says what was measured: checkpoint, sampler, steps,
average, weights. Two figures may be compared if their measurements are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from realuid.errors import RunError

__all__ = ["comparable", "differences", "measurement", "significant"]

SUBJECT = frozenset({"checkpoint", "sampler", "ema", "weights", "role", "step", "images"})

Stamp = Mapping[str, Any]


def measurement(stamp: Stamp) -> dict[str, Any]:
    """The part of a stamp that two comparable figures share."""
    return {name: value for name, value in stamp.items() if name not in SUBJECT}


def differences(one: Stamp, other: Stamp) -> list[str]:
    """`name: value -> value` for all in which two measurements differ."""
    mine, theirs = measurement(one), measurement(other)
    names = [*mine, *(name for name in theirs if name not in mine)]
    return [
        f"{name}: {mine.get(name)!r} -> {theirs.get(name)!r}" for name in names if mine.get(name) != theirs.get(name)
    ]


def comparable(stamps: Iterable[tuple[str, Stamp]]) -> None:
    """Passes if all named stamps are of one measurement.

    Raises:
        RunError: naming the first two that are not, and in what they differ.
    """
    first: tuple[str, Stamp] | None = None
    for name, stamp in stamps:
        if first is None:
            first = name, stamp
        elif changed := differences(first[1], stamp):
            raise RunError(
                f"{first[0]} and {name} were not measured alike, so their figures are not compared "
                f"({'; '.join(changed)}): evaluate both with the same options"
            )


def significant(value: float, digits: int = 4) -> float:
    """`value` rounded to as many significant digits as a figure has.

    Another batch size or number of ranks moves a figure by up to 1e-4 of it, so a fifth digit means nothing.
    """
    return float(f"{value:.{digits}g}")
