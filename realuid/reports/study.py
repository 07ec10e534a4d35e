"""A study: settings that are each run with several seeds, and their results as tables and curves with a spread."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from realuid.evaluation.provenance import check_comparable
from realuid.reports.charts import Series, line_chart
from realuid.reports.history import number, split_name
from realuid.reports.study_file import check_known, table_in
from realuid.utils.errors import RunError

__all__ = ["Plan", "Row", "check_alike", "curves", "tables"]

Record = Mapping[str, Any]
"""A run's summary.json, with `study` (row, seed, command, ...), `curve` (points of the first metric: images, value,
wall time) and `curve_metric` (its name there, see `history.split_name`) added."""


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

    @property
    def group(self) -> str | None:
        """What stands before the first colon of the name; None without one."""
        group, colon, _ = self.name.partition(":")
        return group if colon else None


@dataclass(frozen=True)
class Plan:
    """What a study runs, from a TOML file:

        gin = ["gin/fm_digits.gin"]            # for all rows
        bind = ["teacher/Trainer.seed = 0"]    # one teacher for all seeds
        seeds = [0, 1, 2]
        baseline = "UID"                       # rows are compared with it, seed by seed; in a list, each with the one
                                               # whose name has the same beginning, up to a colon
        metrics = ["student_frechet"]          # names in summary.json, each a table; the first has the curves
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
    metrics: tuple[str, ...]
    baselines: tuple[str, ...]
    """One for all rows, or one for each group of them."""
    curves: tuple[str, ...] | None = None

    def baseline_of(self, row: Row) -> str | None:
        """The row that this one is compared with."""
        if len(self.baselines) == 1:
            return self.baselines[0]
        groups = {other.group: other.name for other in self.rows if other.name in self.baselines}
        return groups.get(row.group)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads a table.

        Raises:
            RunError: one line, if it is missing, no TOML, or says something that is not understood.
        """
        given = table_in(path)
        rows = []
        for index, entry in enumerate(given.get("row", [])):
            check_known(path, f"row {index + 1}", entry, ("name", "gin", "bind", "seeds", "after"))
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
        names, given_baselines, drawn = [row.name for row in rows], given.get("baseline", ()), given.get("curves")
        baselines = (given_baselines,) if isinstance(given_baselines, str) else tuple(given_baselines)
        for what, name in (*(("baseline", name) for name in baselines), *(("curve", name) for name in drawn or ())):
            if name not in names:
                raise RunError(f"{path}: the {what} {name!r} is no row")
        groups = [row.group for row in rows if row.name in baselines]
        if len(set(groups)) < len(groups) or (len(groups) > 1 and None in groups):
            raise RunError(f"{path}: of several baselines each needs a beginning of its own, up to a colon")
        metrics = tuple(given.get("metrics", ("student_frechet",)))
        return cls(path.stem, tuple(rows), metrics, baselines, None if drawn is None else tuple(drawn))


def tables(plan: Plan, records: Mapping[tuple[str, int], Record]) -> str:
    """The study as Markdown: a table for each metric, by row: mean and standard deviation over the seeds, every value,
    and the difference to the baseline, paired by seed.

    Args:
        plan: what was to be run.
        records: what was run so far, by row's name and seed.

    Raises:
        RunError: if records of one table were not measured alike.
    """
    lines = []
    for metric in plan.metrics:
        check_alike(metric, records)
        lines += [f"### {metric.replace('_', ' ')}", ""]
        compared = bool(plan.baselines)
        minus = plan.baselines[0] if len(plan.baselines) == 1 else "its baseline"
        lines += ["| | runs | mean | seeds | " + (f"minus {minus} |" if compared else "|")]
        lines += ["|---|---|---|---|---|" if compared else "|---|---|---|---|"]
        for row in plan.rows:
            own = [records[row.name, seed] for seed in row.seeds if (row.name, seed) in records]
            if own and not any(metric in record for record in own):
                continue  # runs of another kind, say of a teacher
            values = _values(plan, row.name, metric, records)
            cells = [row.name, f"{len(values)} of {len(row.seeds)}", spread(list(values.values()))]
            cells.append(", ".join(f"{value:.3g}" for value in values.values()))
            if compared:
                name = plan.baseline_of(row)
                base = {} if name in (None, row.name) else _values(plan, name, metric, records)
                cells.append(
                    spread([value - base[seed] for seed, value in values.items() if seed in base], signed=True)
                )
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, *_costs(plan, records)])


def check_alike(metric: str, records: Mapping[tuple[str, int], Record]) -> None:
    """Makes sure that the values of a metric may stand in one table.

    Raises:
        RunError: if two of them were not measured alike.
    """
    check_comparable(
        (f"{row}, seed {seed}", _provenance(record, metric))
        for (row, seed), record in records.items()
        if metric in record
    )


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


def _values(plan: Plan, name: str | None, metric: str, records: Mapping[tuple[str, int], Record]) -> dict[int, float]:
    """The values of a row by seed."""
    row = next(row for row in plan.rows if row.name == name)
    found = {seed: number(records[row.name, seed].get(metric)) for seed in row.seeds if (row.name, seed) in records}
    return {seed: value for seed, value in found.items() if value is not None}


def _provenance(record: Record, metric: str) -> Mapping[str, Any]:
    """The provenance of a metric: its own, or that of its role's first without the settings of that metric."""
    provenances: Mapping[str, Any] = record.get("provenance", {})
    role = metric.partition("_")[0]
    first: Mapping[str, Any] = next((p for name, p in provenances.items() if name.startswith(f"{role}_")), {})
    return provenances.get(metric) or {name: value for name, value in first.items() if name != "settings"}


def curves(plan: Plan, records: Mapping[tuple[str, int], Record]) -> dict[str, str]:
    """Charts of the first metric by what they are drawn against, `images` and `time`: the mean over a row's seeds, on a
    band from the lowest to the highest of them.

    Raises:
        RunError: if the curves of two records were measured on different numbers of images.
    """
    charts = {}
    drawn = {record["curve_metric"] for record in records.values() if record.get("curve")}
    if len(drawn) > 1:
        raise RunError(f"curves of {' and of '.join(sorted(drawn))} are not drawn together: evaluate all alike")
    metric, count, _ = split_name(min(drawn, default=plan.metrics[0]))
    title = metric.replace("_", " ").capitalize() + (f" of {count:,} images" if count else "")
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
