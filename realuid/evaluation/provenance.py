"""Provenance of a metric: how it was measured, and of what. Metrics measured differently are never compared.

A provenance is a flat dict of two parts. The measurement says how a value was measured: feature network, checksum of
its weights, resizing, number of images, seed, reference, settings of the metric. The subject says what was measured:
checkpoint, sampler, steps, average, checksum of the weights, the type to which they are rounded (`storage`) if they
are, and a digest of everything else that the samples depend on (`model`). Two values may be compared if their
measurements are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from realuid.utils.errors import RunError

__all__ = ["check_comparable", "differences", "measurement", "significant"]

SUBJECT = frozenset({"checkpoint", "sampler", "ema", "weights", "storage", "model", "role", "step", "images"})

Provenance = Mapping[str, Any]


def measurement(provenance: Provenance) -> dict[str, Any]:
    """The part of a provenance that says how a value was measured; equal for comparable values."""
    return {name: value for name, value in provenance.items() if name not in SUBJECT}


def differences(one: Provenance, other: Provenance) -> list[str]:
    """The differences between two measurements, each as `name: value -> value`; empty if there is none."""
    mine, theirs = measurement(one), measurement(other)
    names = [*mine, *(name for name in theirs if name not in mine)]
    return [
        f"{name}: {mine.get(name)!r} -> {theirs.get(name)!r}" for name in names if mine.get(name) != theirs.get(name)
    ]


def check_comparable(provenances: Iterable[tuple[str, Provenance]]) -> None:
    """Checks that all values were measured alike.

    Args:
        provenances: what a value is called, and its provenance.

    Raises:
        RunError: if two measurements differ; it names the first such pair and the differences.
    """
    first: tuple[str, Provenance] | None = None
    for name, provenance in provenances:
        if first is None:
            first = name, provenance
        elif changed := differences(first[1], provenance):
            raise RunError(
                f"{first[0]} and {name} were not measured alike, so their values are not compared "
                f"({'; '.join(changed)}): evaluate both with the same options"
            )


def significant(value: float, digits: int = 4) -> float:
    """`value` rounded to its reproducible digits.

    Another batch size or number of ranks changes a value by up to 1e-4 of itself, so a fifth digit means nothing.
    """
    return float(f"{value:.{digits}g}")
