"""Files that version 0.1 wrote, read with the keys of today; this goes with the next version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = {
    "stamps": "provenance",
    "stamp": "provenance",
    "figure": "metric",
    "curve_figure": "curve_metric",
    "procedure": "method",
}
"""Keys of summary.json, best.json, a study's records and checkpoints: in 0.1, and now."""


def with_keys_of_today(content: Any) -> Any:
    """`content` with the keys of today, also inside `provenance` and `best`.

    Anything but a mapping is returned as it is. What has the keys of today already comes back equal.
    """
    if not isinstance(content, Mapping):
        return content
    renamed = {_key(key): value for key, value in content.items()}
    return renamed | {key: with_keys_of_today(renamed[key]) for key in ("provenance", "best") if key in renamed}


def place_of_today(place: str) -> str:
    """Where a tensor belongs in a checkpoint today: `/method/...` for `/procedure/...`."""
    root, first, *rest = place.split("/", 2)
    return "/".join((root, _key(first), *rest))


def _key(key: str) -> str:
    """`student_agreement` is `student_label_accuracy` now, also in the names of curves such as `..._of_1000@0.99`."""
    return KEYS.get(key) or key.replace("_agreement", "_label_accuracy")
