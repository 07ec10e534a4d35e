"""Data that were replaced by others at the same place are told from those that a run was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realuid.data.dataset import Dataset

__all__ = ["HELD", "replaced", "stated"]

HELD = {"data": "images", "prompts": "prompts"}
"""What each of a trainer's data sets holds."""


def stated(data: Dataset, prompts: Dataset | None) -> dict[str, str | None]:
    """What a trainer's data sets say of their samples, by the argument that binds each (`Dataset.stated_checksum`).

    Raises:
        DataError: an index cannot be read, or a shard that has none.
    """
    return {"data": data.stated_checksum()} | ({} if prompts is None else {"prompts": prompts.stated_checksum()})


def replaced(before: Mapping[str, Any], now: Mapping[str, str | None]) -> str | None:
    """The first data set that states something else than `before`; None where one of the two says nothing."""
    return next((name for name, checksum in now.items() if checksum and before.get(name) not in (None, checksum)), None)
