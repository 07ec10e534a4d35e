"""The rows of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One thing that was verified: a value, and the bound that it has to keep."""

    what: str
    value: float
    bound: float
    note: str = ""
    sense: Literal["at most", "at least"] = "at most"

    @property
    def good(self) -> bool:
        if not math.isfinite(self.value):
            return False
        return self.value <= self.bound if self.sense == "at most" else self.value >= self.bound

    def __str__(self) -> str:
        relation = "<=" if self.sense == "at most" else ">="
        verdict = "ok  " if self.good else "FAIL"
        return f"{verdict}  {self.what:<44} {self.value:>10.3g} {relation} {self.bound:<8.3g} {self.note}".rstrip()


@dataclass(frozen=True)
class Note:
    """Something worth knowing that is not verified."""

    what: str
    note: str

    def __str__(self) -> str:
        return f"note  {self.what:<44} {self.note}"


@dataclass(frozen=True)
class Caution:
    """Something that holds for exact models and is likely to break with networks, with the binding to change."""

    what: str
    note: str

    def __str__(self) -> str:
        return f"warn  {self.what:<44} {self.note}"


def failure(what: str, reason: str) -> Row:
    """Something that could not even be tried."""
    return Row(what, math.inf, 0.0, reason)


def failed(rows: Sequence[Row | Note | Caution]) -> list[Row]:
    """The rows that do not hold."""
    return [row for row in rows if isinstance(row, Row) and not row.good]
