"""Which curves of a run share a chart: those of one quantity, in one unit, and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from realuid.reports.charts import Series, line_chart
from realuid.reports.history import curve, number, split_name
from realuid.reports.results import LABELS

__all__ = ["charts"]

COUNTERS = {"step", "images", "wall_s"}

DISTANCES = {
    "frechet": "Fréchet distance to the real data",
    "classwise_frechet": "Fréchet distance by class, mean",
    "worst_class_frechet": "Fréchet distance of the worst class",
    "kid": "Kernel distance to the real data",
}
"""Metrics of which the end of the curve is what matters."""

QUANTITIES = {
    r"fake_loss": "Loss of the fake network",  # each loss is a function of its own
    r"warm_(\w+)_loss": r"Warm start: loss of the \1",
    r"(\w+)_loss": r"Loss of the \1",
    r"\w+_grad_norm": "Gradient norms",
    r"gap|gap_q\d": "Teacher–fake gap",
    r"fake_error_\w+": "Squared error of the fake network",
    r"(real|generated)_mean": "Mean of a pixel",
    r"(real|generated)_spread": "Spread of samples",
    r"\w+_updates_left_out": "Updates left out",
    r"damaged_\w+": "Damaged samples",
    r"images_per_s": "Images per second",
    r"flop_per_s": "Floating-point operations per second",
    r"memory_gib": "Memory, GiB",
    r"mfu": "Share of the device's peak (MFU)",
    r"data_wait_s": "Seconds spent waiting for data",
}
"""Names of curves, whole, and the title of the chart that they share; any other curve has one of its own."""

LEVELS = {
    "teacher": "teacher_{}",
    "source images": "source_{}",
    "halves of the data": "halves_{}",
    "pixel Gaussian": "pixel_gaussian_{}",
}
"""What a metric's curve is drawn beside: the same metric of what does not change."""


def charts(rows: Sequence[dict[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """The charts of a run's lines. What was measured of the final model alone is no curve.

    Args:
        rows: of metrics.jsonl.
        summary: of the run, which says the levels.
    """
    panels: dict[str, list[Series]] = {title: [] for title in DISTANCES.values()}
    metrics: dict[str, str] = {}
    for name in dict.fromkeys(key for row in rows for key in row if key not in COUNTERS):
        if points := curve(list(rows), name):
            title, metric = panel(name)
            panels.setdefault(title, []).append(Series(name, points))
            if metric:
                metrics[title] = metric
    return [
        _chart(title, members, metrics.get(title), summary)
        for title, members in panels.items()
        if members and not (title in metrics and all(len(one.points) == 1 for one in members))
    ]


def panel(name: str) -> tuple[str, str | None]:
    """The title of the chart that a curve is drawn in, and the metric that it is of, if it is one of those that are
    measured of the final models. Values of fewer images are not drawn beside others."""
    whole, count, _ = split_name(name)
    of_role = re.fullmatch(r"(?:student|teacher)_(\w+)", whole)
    for pattern, title in QUANTITIES.items():
        if match := re.fullmatch(pattern, whole):
            return match.expand(title), None
    metric = of_role[1] if of_role else None
    label = DISTANCES.get(metric or "") or LABELS.get(metric or "") or (metric or whole).replace("_", " ").capitalize()
    if metric == "kid_error":
        label = "Standard error of the kernel distance"
    return (label, metric) if count is None else (f"{label}, of {count:,} images", None)


def _chart(title: str, members: list[Series], metric: str | None, summary: Mapping[str, Any]) -> str:
    levels = [(whose, number(summary.get(key.format(metric)))) for whose, key in LEVELS.items() if metric]
    own = {one.name.partition("_")[0] for one in members}
    known = [(whose, level) for whose, level in levels if level is not None and whose not in own]
    if any(title.startswith(name) for name in DISTANCES.values()):
        return line_chart(title, members, references=known, decades=1)
    return line_chart(title, members, references=known, from_zero=title.endswith("per second"))
