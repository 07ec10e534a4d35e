"""The rows of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One thing that was verified: a figure, and the bound that it has to keep."""

    what: str
    figure: float
    bound: float
    note: str = ""
    sense: Literal["at most", "at least"] = "at most"

    @property
    def good(self) -> bool:
        if not math.isfinite(self.figure):
            return False
        return self.figure <= self.bound if self.sense == "at most" else self.figure >= self.bound

    def __str__(self) -> str:
        relation = "<=" if self.sense == "at most" else ">="
        verdict = "ok  " if self.good else "FAIL"
        return f"{verdict}  {self.what:<44} {self.figure:>10.3g} {relation} {self.bound:<8.3g} {self.note}".rstrip()


@dataclass(frozen=True)
class Note:
    """Something worth knowing that is not verified."""

    what: str
    note: str

    def __str__(self) -> str:
        return f"note  {self.what:<44} {self.note}"


def failure(what: str, reason: str) -> Row:
    """Something that could not even be tried."""
    return Row(what, math.inf, 0.0, reason)


def failed(rows: Sequence[Row | Note]) -> list[Row]:
    """The rows that do not hold."""
    return [row for row in rows if isinstance(row, Row) and not row.good]
