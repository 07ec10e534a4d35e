"""Several models side by side: a table, grids from the same noise, and quality against images seen and wall time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from realuid.evaluation.provenance import Provenance, check_comparable, differences, significant
from realuid.reports.charts import Series, line_chart, standalone
from realuid.reports.page import columns, page, picture, save_text

__all__ = ["Entry", "html_page", "markdown_page", "rounded"]


@dataclass(frozen=True)
class Entry:
    """A model that was evaluated."""

    name: str
    values: dict[str, float]
    """Without the role in their names."""
    provenances: Mapping[str, Provenance]
    """By the first name of each metric."""
    grid: Image.Image
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Of the ranking metric during the run, against `images` and `wall_s`."""
    curve_provenance: Provenance | None = None
    """What these were measured with."""
    captions: Sequence[str] = ()
    """Of the columns of the grid, if they have any."""

    @property
    def subject(self) -> dict[str, Any]:
        """The part of the provenance that says what was measured: sampler, average, step, images."""
        provenance = next(iter(self.provenances.values()))
        return {key: provenance.get(key) for key in ("sampler", "ema", "step", "images")}


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Values rounded to their reproducible digits, see `significant`."""
    return {name: significant(value) if isinstance(value, float) else value for name, value in values.items()}


def _rows(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table.

    Raises:
        RunError: if not all were measured alike.
    """
    for name in entries[0].provenances:
        check_comparable((entry.name, entry.provenances.get(name, {})) for entry in entries)
    names = list(dict.fromkeys(name for entry in entries for name in entry.values))
    heads = ["run", "sampler", "average", "images seen", *(name.replace("_", " ") for name in names)]
    rows = []
    for entry in entries:
        subject = entry.subject
        seen = f"{subject['images']:,}" if isinstance(subject["images"], int) else ""
        values = [f"{entry.values[name]:.4g}" if name in entry.values else "" for name in names]
        rows.append([entry.name, str(subject["sampler"]), str(subject["ema"] or ""), seen, *values])
    return heads, rows


def _charts(entries: Sequence[Entry], metric: str) -> tuple[list[str], str]:
    """The charts of quality, and why runs are missing there."""
    drawn = [entry for entry in entries if entry.curve_provenance is not None and entry.curves.get("images")]
    if not drawn:
        return [], "No run was evaluated during training."
    first = drawn[0].curve_provenance
    assert first is not None
    alike = [entry for entry in drawn if not differences(first, entry.curve_provenance or {})]
    missing = [entry.name for entry in entries if entry not in alike]
    note = f"Not drawn, because evaluated differently during training: {', '.join(missing)}." if missing else ""
    title = metric.replace("_", " ").capitalize()
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
    provenance = {name: str(value) for name, value in next(iter(entries[0].provenances.values())).items()}
    return (
        f"{provenance['count']} generated images a model, seed {provenance['seed']}, against "
        f"{provenance['reference_count']} real ones ({provenance['reference'][:12]}), in the features of "
        f"{provenance['network']} ({provenance['network_sha256'][:12]}; resizing: {provenance['resize']})."
    )


def _captions(entries: Sequence[Entry]) -> Sequence[str]:
    """Of the columns, if all grids have the same."""
    first = entries[0].captions
    return first if all(list(entry.captions) == list(first) for entry in entries) else ()


def html_page(entries: Sequence[Entry], metric: str) -> str:
    """One HTML page that needs nothing else.

    Raises:
        RunError: if not all entries were measured alike.
    """
    heads, rows = _rows(entries)
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    charts, note = _charts(entries, metric)
    grids = "".join(picture(entry.grid, entry.name) for entry in entries)
    parts = [
        f'<h1>{escape(" · ".join(entry.name for entry in entries))}</h1><p class="note">{escape(_how(entries))}</p>',
        f'<div class="wide"><table class="compared"><tr>{head}</tr>{body}</table></div>',
        f'<h2>Samples</h2><div class="two">{grids}</div>'
        f'<p class="note">The same noise and conditions, place by place.</p>{columns(_captions(entries))}',
        f'<h2>Quality in time</h2><div class="two">{"".join(charts)}</div><p class="note">{escape(note)}</p>',
    ]
    return page("Comparison", "\n".join(parts))


def markdown_page(entries: Sequence[Entry], metric: str, out: Path) -> str:
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
    if captions := _captions(entries):
        lines += [f"The columns, from the left: {'; '.join(captions)}.", ""]
    charts, note = _charts(entries, metric)
    for chart, against in zip(charts, ("images", "time"), strict=False):
        name = f"{out.stem}-{against}.svg"
        save_text(out.with_name(name), standalone(chart))
        lines += [f"![quality against {against}]({name})", ""]
    return "\n".join([*lines, note]).rstrip() + "\n"
