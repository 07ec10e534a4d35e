"""Several models side by side: a table, grids from the same noise, and quality against images seen and wall time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from realuid.evaluation.charts import Series, line_chart, standalone
from realuid.evaluation.page import page, picture, save_text
from realuid.evaluation.stamps import Stamp, comparable, differences, significant

__all__ = ["Entry", "html_page", "markdown_page", "rounded"]


@dataclass(frozen=True)
class Entry:
    """A model that was evaluated."""

    name: str
    figures: dict[str, float]
    """Without the role in their names."""
    stamps: Mapping[str, Stamp]
    """By the name of each metric's first figure."""
    grid: Image.Image
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Of the ranking figure during the run, against `images` and `wall_s`."""
    curve_stamp: Stamp | None = None
    """What these were measured with."""

    @property
    def subject(self) -> dict[str, Any]:
        """What was measured, beside how."""
        stamp = next(iter(self.stamps.values()))
        return {key: stamp.get(key) for key in ("sampler", "ema", "step", "images")}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures with the digits that they have."""
    return {name: significant(value) if isinstance(value, float) else value for name, value in figures.items()}


def _rows(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table.

    Raises:
        RunError: if not all were measured alike.
    """
    for name in entries[0].stamps:
        comparable((entry.name, entry.stamps.get(name, {})) for entry in entries)
    names = list(dict.fromkeys(name for entry in entries for name in entry.figures))
    heads = ["run", "sampler", "average", "images seen", *(name.replace("_", " ") for name in names)]
    rows = []
    for entry in entries:
        subject = entry.subject
        seen = f"{subject['images']:,}" if isinstance(subject["images"], int) else ""
        figures = [f"{entry.figures[name]:.4g}" if name in entry.figures else "" for name in names]
        rows.append([entry.name, str(subject["sampler"]), str(subject["ema"] or ""), seen, *figures])
    return heads, rows


def _charts(entries: Sequence[Entry], figure: str) -> tuple[list[str], str]:
    """The charts of quality, and why runs are missing there."""
    drawn = [entry for entry in entries if entry.curve_stamp is not None and entry.curves.get("images")]
    if not drawn:
        return [], "No run was evaluated during training."
    first = drawn[0].curve_stamp
    assert first is not None
    alike = [entry for entry in drawn if not differences(first, entry.curve_stamp or {})]
    missing = [entry.name for entry in entries if entry not in alike]
    note = f"Not drawn, for not measured in the same way during training: {', '.join(missing)}." if missing else ""
    title = figure.replace("_", " ").capitalize()
    return [
        line_chart(f"{title} against images", [Series(e.name, e.curves["images"]) for e in alike], decades=1),
        line_chart(
            f"{title} against wall time",
            [Series(e.name, e.curves["wall_s"]) for e in alike],
            decades=1,
            x_label="wall time in seconds",
        ),
    ], note


def _how(entries: Sequence[Entry]) -> str:
    stamp = {name: str(value) for name, value in next(iter(entries[0].stamps.values())).items()}
    return (
        f"{stamp['count']} generated images a model, seed {stamp['seed']}, against {stamp['reference_count']} real "
        f"ones ({stamp['reference'][:12]}), in the features of {stamp['network']} ({stamp['network_sha256'][:12]}; "
        f"resizing: {stamp['resize']})."
    )


def html_page(entries: Sequence[Entry], figure: str) -> str:
    """One HTML page that needs nothing else.

    Raises:
        RunError: if not all entries were measured alike.
    """
    heads, rows = _rows(entries)
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    charts, note = _charts(entries, figure)
    grids = "".join(picture(entry.grid, entry.name) for entry in entries)
    parts = [
        f'<h1>{escape(" · ".join(entry.name for entry in entries))}</h1><p class="note">{escape(_how(entries))}</p>',
        f'<div class="wide"><table class="compared"><tr>{head}</tr>{body}</table></div>',
        f'<h2>Samples</h2><div class="two">{grids}</div><p class="note">The same noise and labels, place by place.</p>',
        f'<h2>Quality in time</h2><div class="two">{"".join(charts)}</div><p class="note">{escape(note)}</p>',
    ]
    return page("Comparison", "\n".join(parts))


def markdown_page(entries: Sequence[Entry], figure: str, out: Path) -> str:
    """Markdown, and beside `out` the pictures that it shows: PNG grids and SVG charts.

    Raises:
        RunError: if not all entries were measured alike.
    """
    heads, rows = _rows(entries)
    table = [heads, ["---"] * len(heads), *rows]
    lines = [*("| " + " | ".join(row) + " |" for row in table), "", _how(entries), ""]
    for number, entry in enumerate(entries):
        name = f"{out.stem}-{number}.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        entry.grid.save(out.with_name(name), format="PNG")
        lines += [f"{entry.name}:", "", f"![{entry.name}]({name})", ""]
    charts, note = _charts(entries, figure)
    for chart, against in zip(charts, ("images", "time"), strict=False):
        name = f"{out.stem}-{against}.svg"
        save_text(out.with_name(name), standalone(chart))
        lines += [f"![quality against {against}]({name})", ""]
    return "\n".join([*lines, note]).rstrip() + "\n"
