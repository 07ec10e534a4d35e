"""Lines of measurements as tables of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LEFT_OUT = {"flops", "peak_flops_per_s", "realuid", "rounds", "ms_all"}
"""Numbers that say nothing to a reader of a page; the lines have them."""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of rows; columns as they appear, and a dash where a row has no value. Nested ones (exponents)
    are spread out."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row if name not in LEFT_OUT))
    head = [f"| {' | '.join(name.replace('_', ' ') for name in columns)} |", "|" + "---|" * len(columns)]
    body = [f"| {' | '.join(_shown(row.get(name)) for name in columns)} |" for row in flat]
    return "\n".join(head + body)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        )
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
