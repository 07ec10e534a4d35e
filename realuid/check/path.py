"""Schedules, ends, times and weights."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.check.gaussian import Moments
from realuid.check.table import Row, failure
from realuid.paths.couplings import Coupling
from realuid.paths.interpolants import Interpolant
from realuid.paths.targets import Target
from realuid.paths.time_samplers import SMALLEST, TimeSampler
from realuid.paths.weights import Weight

SOURCE_LEFT = 0.05
"""Most data in the source end, and most source and noise in the data end, relative to what prevails there."""


def path_rows(path: Interpolant, coupling: Coupling, moments: Moments) -> list[Row]:
    """Finite schedules, their derivatives, and both ends."""
    name = type(path).__name__
    inside = path.at(path.time(torch.linspace(0.001, 0.999, 999, dtype=torch.float64)))
    values = torch.stack([inside.a, inside.b, inside.g_squared, inside.a_dot, inside.b_dot, inside.gg_dot])
    broken = int((~torch.isfinite(values)).any(0).sum()) + int((inside.g_squared < -1e-12).sum())
    note = "a, b, g^2 and their derivatives"
    if broken:
        bad = ~torch.isfinite(values).all(0) | (inside.g_squared < -1e-12)
        note = f"{name} is not finite, or g^2 negative, at time {float(inside.t[bad][0]):.4g}"
    rows = [Row("schedule: times at which it is not finite", broken, 0, note)]
    if broken:
        return rows
    rows.append(Row("schedule: derivatives, by finite differences", _derivative_error(path), 1e-4, name))

    source, data = (path.at(torch.tensor([t], dtype=torch.float64)) for t in (path.t_source, path.t_data))
    s0, s1 = moments.variance0**0.5, moments.variance1**0.5
    if coupling.gaussian_source:
        at_source = float(source.b.abs() * s1 / source.noise_std)
        note = f"data over noise at t_source = {path.t_source:g}"
    else:
        at_source = float(torch.stack([source.b.abs() * s1, (source.a - 1).abs() * s0, source.g]).max())
        note = f"x_t - x0 at t_source = {path.t_source:g}"
    rows.append(Row("path: what the source end misses", at_source, SOURCE_LEFT, _hint(note, source.a, source.b, path)))
    at_data = float(torch.stack([(data.b - 1).abs() * s1, data.a.abs() * s0, data.g]).max())
    rows.append(
        Row("path: what the data end misses", at_data, SOURCE_LEFT, f"x_t - x1 at t_data = {path.t_data:g}; {name}")
    )
    return rows


def _hint(note: str, a: Tensor, b: Tensor, path: Interpolant) -> str:
    name = type(path).__name__
    if float(a.abs()) < 0.1 and abs(float(b) - 1) < 0.1:
        return f"{note}; a = 0 and b = 1 there: are the ends of {name} swapped?"
    return f"{note}; {name}"


def _derivative_error(path: Interpolant) -> float:
    """Largest error of a', b' and g g' relative to the schedule's scale, against five-point differences inside."""
    t = path.time(torch.linspace(0.05, 0.95, 181, dtype=torch.float64))
    h = 1e-4 * abs(path.t_source - path.t_data)
    k = path.at(t)
    worst = 0.0
    for schedule, slope in ((path.a, k.a_dot), (path.b, k.b_dot), (path.g_squared, 2 * k.gg_dot)):
        far, near = schedule(t + 2 * h) - schedule(t - 2 * h), schedule(t + h) - schedule(t - h)
        difference = (8 * near - far) / (12 * h)
        # A kink (the encoder-decoder's at 1/2) is no error: the few points beside it do not count.
        errors = ((difference - slope).abs() / slope.abs().clamp_min(float(slope.abs().max()) * 1e-3 + 1e-12)).sort()
        worst = max(worst, float(errors.values[:-5].max()) if float(slope.abs().max()) else 0.0)
    return worst


def time_rows(path: Interpolant, law: TimeSampler, weight: Weight, target: Target, who: str) -> list[Row]:
    """Time mass inside the path, a monotone quantile, positive weights, and a sampled target of finite variance."""
    name = type(law).__name__
    try:
        span = law.span(path)
    except ValueError as error:
        return [failure(f"{who}: times inside the path", str(error))]
    u = torch.linspace(SMALLEST, 1 - SMALLEST, 1001, dtype=torch.float64)
    times = law.quantile(u, path)
    low, high = sorted((path.t_source, path.t_data))
    outside = float(((times < low) | (times > high) | ~torch.isfinite(times)).double().mean())
    rows = [Row(f"{who}: share of times outside the path", outside, 0, f"{name} draws {low_high(times)}")]
    steps = times.diff()
    backwards = float(torch.minimum((steps < -1e-9).sum(), (steps > 1e-9).sum()))
    rows.append(Row(f"{who}: turns of the quantile function", backwards, 0, name))
    k = path.at(span)
    try:
        weight.check(k)
        rows.append(Row(f"{who}: least weight", float(weight(k).min()), 0, type(weight).__name__, "at least"))
    except ValueError as error:
        rows.append(failure(f"{who}: least weight", str(error)))
    c = torch.stack([part for row in target.rows(path.at(times)) for part in row.sampled])
    largest = float(c.abs().max()) if bool(torch.isfinite(c).all()) else float("inf")
    rows.append(
        Row(f"{who}: largest coefficient of the sampled target", largest, 1e7, f"{target}; keep times off its poles")
    )
    return rows


def low_high(values: Tensor) -> str:
    return f"{float(values.min()):.4g} to {float(values.max()):.4g}"
