"""A study: a table of settings, each run with several seeds; what came out, as tables and curves with their spread."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from realuid.errors import RunError
from realuid.evaluation.charts import Series, line_chart
from realuid.evaluation.history import number, split_name
from realuid.evaluation.stamps import comparable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Plan", "Row", "curves", "tables"]

Record = Mapping[str, Any]
"""A run's summary.json, with `study` (row, seed, command, ...), `curve` (points of the first figure: images, value,
wall time) and `curve_figure` (its name there, see `history.split_name`) added."""


@dataclass(frozen=True)
class Row:
    """One setting."""

    name: str
    gin: tuple[str, ...]
    bind: tuple[str, ...]
    seeds: tuple[int, ...]
    after: str | None = None
    """The row whose run this one starts from; `{after}` in `bind` is its folder."""

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Plan:
    """What a study runs, from a TOML file:

        gin = ["gin/fm_digits.gin"]            # for all rows
        bind = ["teacher/Trainer.seed = 0"]    # one teacher for all seeds
        seeds = [0, 1, 2]
        baseline = "UID"                       # rows are compared with it, seed by seed
        figures = ["student_frechet"]          # names in summary.json, each a table; the first has the curves
        curves = ["UID"]                       # rows whose curves are drawn; all without this line

        [[row]]
        name = "UID"
        bind = ["RealUID.alpha = 1.0", "RealUID.beta = 1.0"]

    A row may add `gin` and `bind` to those for all, and have `seeds` of its own. It may go on from another row's run,
    of the same seed or of that row's only one; `{after}` is that run's folder:

        [[row]]
        name = "RealUID, fine-tuning UID"
        after = "UID"
        bind = ["Distillation.student_init = '{after}/checkpoints/step_00000075.pt'"]
    """

    name: str
    rows: tuple[Row, ...]
    figures: tuple[str, ...]
    baseline: str | None
    curves: tuple[str, ...] | None = None

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads a table.

        Raises:
            RunError: one line, if it is missing, no TOML, or says something that is not understood.
        """
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"there is no table {path}") from None
        except tomllib.TOMLDecodeError as error:
            raise RunError(f"{path}: {error}") from None
        _known(path, "the table", given, ("gin", "bind", "seeds", "baseline", "figures", "curves", "row"))
        rows = []
        for index, entry in enumerate(given.get("row", [])):
            _known(path, f"row {index + 1}", entry, ("name", "gin", "bind", "seeds", "after"))
            if not entry.get("name"):
                raise RunError(f"{path}: row {index + 1} has no name")
            gin, bind = ((*given.get(key, ()), *entry.get(key, ())) for key in ("gin", "bind"))
            seeds = tuple(entry.get("seeds", given.get("seeds", (0,))))
            rows.append(Row(entry["name"], gin, bind, seeds, entry.get("after")))
        slugs = [row.slug for row in rows]
        for row in rows:
            if not row.gin:
                raise RunError(f"{path}: {row.name} names no gin file")
            if slugs.count(row.slug) > 1 or not row.slug:
                raise RunError(f"{path}: the name {row.name!r} is not one of its own")
        if not rows:
            raise RunError(f"{path} has no row: write [[row]] with a name")
        for index, row in enumerate(rows):
            before = next((other for other in rows[:index] if other.name == row.after), None)
            if row.after is not None and before is None:
                raise RunError(f"{path}: {row.name} goes on after {row.after!r}, which is no row above it")
            if before and len(before.seeds) > 1 and (missing := set(row.seeds) - set(before.seeds)):
                raise RunError(
                    f"{path}: {row.name} goes on after {row.after} with seed {min(missing)}, which that has not"
                )
        names, baseline, drawn = [row.name for row in rows], given.get("baseline"), given.get("curves")
        for what, name in (("baseline", baseline), *(("curve", name) for name in drawn or ())):
            if name is not None and name not in names:
                raise RunError(f"{path}: the {what} {name!r} is no row")
        figures = tuple(given.get("figures", ("student_frechet",)))
        return cls(path.stem, tuple(rows), figures, baseline, None if drawn is None else tuple(drawn))


def _known(path: Path, where: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    for key in given:
        if key not in names:
            raise RunError(f"{path}: {where} has no {key!r}; it has {', '.join(names)}")


def tables(plan: Plan, records: Mapping[tuple[str, int], Record]) -> str:
    """The study as Markdown: a table for each figure, by row: mean and standard deviation over the seeds, every value,
    and the difference to the baseline, paired by seed.

    Args:
        plan: what was to be run.
        records: what was run so far, by row's name and seed.

    Raises:
        RunError: if records of one table were not measured alike.
    """
    lines = []
    for figure in plan.figures:
        comparable(
            (f"{row}, seed {seed}", _stamp(record, figure))
            for (row, seed), record in records.items()
            if figure in record
        )
        lines += [f"### {figure.replace('_', ' ')}", ""]
        lines += ["| | runs | mean | seeds | " + (f"minus {plan.baseline} |" if plan.baseline else "|")]
        lines += ["|---|---|---|---|---|" if plan.baseline else "|---|---|---|---|"]
        base = _values(plan, plan.baseline, figure, records) if plan.baseline else {}
        for row in plan.rows:
            own = [records[row.name, seed] for seed in row.seeds if (row.name, seed) in records]
            if own and not any(figure in record for record in own):
                continue  # runs of another kind, say of a teacher
            values = _values(plan, row.name, figure, records)
            cells = [row.name, f"{len(values)} of {len(row.seeds)}", spread(list(values.values()))]
            cells.append(", ".join(f"{value:.3g}" for value in values.values()))
            if plan.baseline:
                paired = [value - base[seed] for seed, value in values.items() if seed in base]
                cells.append(spread(paired, signed=True) if row.name != plan.baseline else "")
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, *_costs(plan, records)])


def _costs(plan: Plan, records: Mapping[tuple[str, int], Record]) -> list[str]:
    lines = ["### Costs", "", "| | images | wall time, s | images per second |", "|---|---|---|---|"]
    for row in plan.rows:
        own = [record for (name, _), record in records.items() if name == row.name]
        cells = [row.name]
        for key in ("images", "wall_s", "images_per_s"):
            found = [value for record in own if (value := number(record.get(key))) is not None]
            cells.append(
                spread(found, digits=3) if key != "images" else ", ".join(sorted({f"{v:,.0f}" for v in found}))
            )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def spread(values: Sequence[float], *, signed: bool = False, digits: int = 3) -> str:
    """`mean ± standard deviation`, the mean to as many decimals as the deviation's second digit is worth, and to
    at most four digits."""
    if not values:
        return ""
    mean = fmean(values)
    sign = "+" if signed else ""
    if len(values) < 2:
        return f"{mean:{sign}.{digits}g}"
    deviation = stdev(values)
    scale = deviation if deviation > 0 else abs(mean) or 1.0
    decimals = 1 - math.floor(math.log10(scale))
    if mean:
        decimals = min(decimals, 3 - math.floor(math.log10(max(abs(mean), deviation))))
    decimals = max(0, decimals)
    return f"{mean:{sign}.{decimals}f} ± {deviation:.{decimals}f}"


def _values(plan: Plan, name: str | None, figure: str, records: Mapping[tuple[str, int], Record]) -> dict[int, float]:
    """The values of a row by seed."""
    row = next(row for row in plan.rows if row.name == name)
    found = {seed: number(records[row.name, seed].get(figure)) for seed in row.seeds if (row.name, seed) in records}
    return {seed: value for seed, value in found.items() if value is not None}


def _stamp(record: Record, figure: str) -> Mapping[str, Any]:
    """The stamp of a figure: its own, or that of its role's first."""
    stamps: Mapping[str, Any] = record.get("stamps", {})
    role = figure.partition("_")[0]
    return stamps.get(figure) or next((s for name, s in stamps.items() if name.startswith(f"{role}_")), {})


def curves(plan: Plan, records: Mapping[tuple[str, int], Record]) -> dict[str, str]:
    """Charts of the first figure by what they are drawn against, `images` and `time`: the mean over a row's seeds, on a
    band from the lowest to the highest of them.

    Raises:
        RunError: if the curves of two records were measured on different numbers of images.
    """
    charts = {}
    drawn = {record["curve_figure"] for record in records.values() if record.get("curve")}
    if len(drawn) > 1:
        raise RunError(f"curves of {' and of '.join(sorted(drawn))} are not drawn together: evaluate all alike")
    figure, count, _ = split_name(min(drawn, default=plan.figures[0]))
    title = figure.replace("_", " ").capitalize() + (f" of {count:,} images" if count else "")
    for against, label, axis in (
        ("images", "images the generator was trained on", 1),
        ("time", "wall time in seconds", 2),
    ):
        series = []
        for row in plan.rows:
            if plan.curves is not None and row.name not in plan.curves:
                continue
            own = [records[row.name, seed].get("curve", []) for seed in row.seeds if (row.name, seed) in records]
            shared = set.intersection(*({point[0] for point in one} for one in own)) if own else set()
            points, band = [], []
            for at in sorted(shared):
                there = [next(point for point in one if point[0] == at) for one in own]
                x = at if axis == 1 else fmean(point[2] for point in there)
                points.append((x, fmean(point[1] for point in there)))
                band.append((min(point[1] for point in there), max(point[1] for point in there)))
            series.append(Series(row.name, points, band))
        charts[against] = line_chart(f"{title}, mean and range over seeds", series, decades=1, x_label=label)
    return charts
