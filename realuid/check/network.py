r"""What a network makes of a framework that exact models forgive: where its errors grow, and where it learns nothing.

None of this trains anything. A network's answer enters each function that it is asked for linearly, so that the growth
of its errors follows from two constant answers. What x_t tells of x1 is

.. math:: R^2 = Cov(x_1, x_t)^2 / (Var(x_1) Var(x_t)),

the share of the variance of a pixel of the data that the same pixel of x_t explains; 1 - R^2 is the noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.check.game import Generated, generator_of, value
from realuid.check.gaussian import UNCONDITIONAL, GaussianPairs, Moments
from realuid.check.table import Caution, Note
from realuid.conditions import Condition
from realuid.distillation.students import Student
from realuid.losses import DistillationLoss
from realuid.models.matching import PosteriorMean, matching_model_of
from realuid.networks.base import Network
from realuid.paths.interpolants import Interpolant
from realuid.paths.targets import Data, Target
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight

DRAWS = 400
"""Times, evenly spaced in probability, at which cheap things are looked at."""
VALUES = 16
"""Times at which the loss's value is."""
QUARTERS = 4
STUDENT_GROWTH = 5.0
"""Most by which an error of the network's answer may grow into the student's sample."""
ERROR_SHARE, PEAK = 0.9, 10.0
"""Most of the squared error that may come from a quarter of the times, and how far the largest may lie above the
median."""
NO_SIGNAL, NO_SIGNAL_SHARE = 1e-3, 1 / 3
"""R^2 below which x_t tells nothing, and the largest share of such times."""
GRADIENT_SHARE = 0.99
"""Most of the generator's gradient that may come from a quarter of the noise levels."""
SPREAD = 0.1
"""Most by which the path may be wider than the student's input."""
SMALLEST_LOSS = 1e-6
"""Least that an error of one may cost at any time: below it Adam's eps swallows the gradient."""
SMALLEST_VALUE = 1e-9
"""Least value of the loss of a generator that is a little off."""


class _Answer(Network):
    """Answers the same everywhere: one in one of its rows."""

    def __init__(self, rows: int, row: int | None) -> None:
        super().__init__()
        self.answer = torch.zeros(rows, dtype=torch.float64)
        if row is not None:
            self.answer[row] = 1.0

    @property
    def has_null(self) -> bool:
        return True

    def null(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return self.answer.expand(len(x), -1)


def growth(model: PosteriorMean, target: Target, times: Tensor) -> Tensor:
    """By how much an error of the network's answer grows in the prediction of `target`, at native times: `[B]`.

    Guidance is not counted: both of its answers have the same error here.

    Args:
        model: with a network, which is put back afterwards.
        target: what is asked for.
        times: `[B]`, float64.
    """
    native = matching_model_of(model)
    assert native is not None, "a closed form has no network"
    x = torch.zeros(len(times), 1, dtype=torch.float64)
    network, rows = native.network, native.target.out_multiplier

    def answered(row: int | None) -> Tensor:
        native.network = _Answer(rows, row)
        return model.predict(x, times, UNCONDITIONAL, target, x)

    try:
        nothing = answered(None)
        return torch.stack([(answered(row) - nothing).square().sum(1) for row in range(rows)]).sum(0).sqrt()
    finally:
        native.network = network


def explained(law: GaussianPairs, times: Tensor) -> Tensor:
    """R^2 at native times, `[B]`; 0 where x_t is nothing."""
    m, k = law.moments, law.interpolant.at(times)
    variance = k.a**2 * m.variance0 + k.b**2 * m.variance1 + 2 * k.a * k.b * m.covariance + k.g_squared
    with1 = k.a * m.covariance + k.b * m.variance1
    return torch.where(variance > 0, with1**2 / (variance * m.variance1).clamp_min(1e-300), 0.0)


def drawn(law: TimeSampler, path: Interpolant, count: int = DRAWS) -> Tensor:
    """Times of the law, evenly spaced in probability: `[count]`, float64."""
    return law.quantile((torch.arange(count, dtype=torch.float64) + 0.5) / count, path)


def growth_rows(
    who: str,
    model: PosteriorMean,
    target: Target,
    law: TimeSampler,
    weight: Weight,
    owner: str = "Distillation",
) -> list[Note | Caution]:
    """How the errors of a network enter the loss, by time.

    Args:
        who: the network's name.
        model: with a network.
        target: the loss's.
        law: of the times.
        weight: w(t).
        owner: the component that law and weight are bound to.
    """
    path = model.interpolant
    times = drawn(law, path)
    grown, weights = growth(model, target, times), weight(path.at(times))
    size = weights.sqrt() * grown
    squared = size.square().double()
    shares = squared.sort().values.flip(0).cumsum(0) / squared.sum().clamp_min(1e-300)
    share, peak, at = float(shares[DRAWS // QUARTERS - 1]), float(size.max()), float(times[size.argmax()])
    middle = float(size.median())
    what = f"{who}: growth of its errors in {target.name}"
    line = f"{float(size.min()):.3g} to {peak:.3g}, most at time {at:.4g}; {share:.0%} of their squares in a quarter"
    if not peak**2 >= SMALLEST_LOSS:
        remedy = f"the loss is so small that Adam's eps swallows its gradient: bind a larger {owner}.weight"
        return [Caution(what, f"{line}; {remedy}")]
    if share > ERROR_SHARE and peak > PEAK * middle and float(grown.max()) <= PEAK * float(grown.median()):
        remedy = (
            f"the weight is {float(weights.max()):.3g} there and {float(weights.median()):.3g} at most times, at which "
            f"nothing is learnt: bind another {owner}.weight, or an {owner}.time_sampler that draws where it is large"
        )
        return [Caution(what, f"{line}; {remedy}")]
    if share > ERROR_SHARE and peak > PEAK * middle:
        native = matching_model_of(model)
        assert native is not None
        remedy = (
            f"errors of the network, which predicts {native.target.name}, swamp the loss there: bind "
            f"{who}/MatchingModel.target = @{type(target).__name__}(), a {owner}.weight that falls there, or a "
            f"{owner}.time_sampler that keeps away"
        )
        return [Caution(what, f"{line}; {remedy}")]
    return [Note(what, line)]


def student_rows(student: Student, moments: Moments) -> list[Note | Caution]:
    """What the initial student makes of its input: how errors of its network grow, and whether it is given what the
    network has learnt to read."""
    name, path = type(student).__name__, student.model.interpolant
    times = torch.tensor(student.times, dtype=torch.float64)
    rows: list[Note | Caution] = []
    grown = growth(student.model, Data(), times)
    worst = int(grown.argmax())
    what, line = (
        "student: growth of its network's errors",
        f"{float(grown[worst]):.3g} at time {float(times[worst]):.4g}",
    )
    if float(grown[worst]) > STUDENT_GROWTH:
        attribute = "time" if len(times) == 1 else "times"
        remedy = (
            f"its samples are errors of the network: bind {name}.{attribute} nearer to the data, or a "
            "student/MatchingModel.target that says more of the data there"
        )
        rows.append(Caution(what, f"{line}: {remedy}"))
    else:
        rows.append(Note(what, line))
    k = path.at(times[:1])
    variance = (
        k.a**2 * moments.variance0 + k.b**2 * moments.variance1 + 2 * k.a * k.b * moments.covariance + k.g_squared
    )
    missing = float((variance / (k.a**2 * moments.variance0).clamp_min(1e-300)).sqrt()) - 1
    law = GaussianPairs(interpolant=path, coupling=student.model.coupling, moments=moments)
    shown = float(k.a) * (moments.mean0 + moments.variance0**0.5 * torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    answers = law.predict(shown, times[:1].expand(2), UNCONDITIONAL, Data()).squeeze(1)
    mean, spread = float(answers.mean()), float((answers[1] - answers[0]).abs() / 2)
    line = f"mean {mean:.3g}, std {spread:.3g}; the data's {moments.mean1:.3g} and {moments.variance1**0.5:.3g}"
    rows.append(Note("student: what it answers at first, exactly", line))
    if missing > SPREAD:
        attribute = "time" if len(times) == 1 else "times"
        rows.append(
            Caution(
                "student: its input is not the path's",
                f"x_t is {missing:.0%} wider than a(t) x0 at time {float(times[0]):.4g}, for it holds data. "
                f"Bind {name}.{attribute} nearer to the source ({path.t_source:g})",
            )
        )
    return rows


def time_rows_of_networks(
    loss: DistillationLoss, data: GaussianPairs, law: TimeSampler, weight: Weight, who: str, binding: str
) -> list[Note | Caution]:
    """Times that carry no signal, and the generator's gradient by noise.

    Args:
        loss: quadratic in the fake.
        data: the law of the pairs on the teacher's path.
        law: of the times.
        weight: w(t).
        who: `fake` or `generator`.
        binding: the argument that binds the law.
    """
    rows: list[Note | Caution] = []
    if not data.source_conditioned:  # told x0, x_t always tells something
        told = explained(data, drawn(law, data.interpolant))
        idle = float((told < NO_SIGNAL).double().mean())
        what = f"{who}: share of times without signal"
        if idle > NO_SIGNAL_SHARE:
            remedy = f"x_t tells nothing of the data there: bind another {binding}, or another interpolant"
            rows.append(Caution(what, f"{idle:.0%}; {remedy}"))
        else:
            rows.append(Note(what, f"{idle:.0%}"))
    if who == "generator":
        rows.append(_gradient_row(loss, data, law, weight, binding))
    return rows


def _gradient_row(
    loss: DistillationLoss, data: GaussianPairs, law: TimeSampler, weight: Weight, binding: str
) -> Note | Caution:
    """Shares of the loss's value of a generator that is a little off, which its gradient is the slope of."""
    times = drawn(law, data.interpolant, VALUES)
    exact = generator_of(data.moments, data.coupling.keeps_source)
    scale = data.moments.variance1**0.5
    off = Generated(exact.shift + 0.1 * scale, exact.slope, 0.95 * exact.spread).law(data)
    found = torch.tensor([max(value(loss, data, off, t, data.moments.mean0).value, 0.0) for t in times.tolist()])
    mass = found.double() * weight(data.interpolant.at(times))
    k = data.interpolant.at(times)
    noise = (k.a**2 * data.moments.variance0 + k.g_squared).sqrt()
    quarter = (QUARTERS * noise / (noise + k.b.abs() * scale)).long().clamp(0, QUARTERS - 1)
    shares = torch.zeros(QUARTERS, dtype=torch.float64).index_add(0, quarter, mass) / mass.sum().clamp_min(1e-300)
    line = " ".join(f"{float(share):.0%}" for share in shares) + ", from little noise to much"
    what = "generator: its gradient by quarters of noise"
    if not float(mass.mean()) >= SMALLEST_VALUE:
        remedy = (
            "the loss tells a generator that is off from one that is not by less than this: bind other coefficients"
        )
        return Caution(what, f"{float(mass.mean()):.2g} in all; {remedy} of the loss, or a larger weight")
    if float(shares.max()) > GRADIENT_SHARE:
        return Caution(
            what, f"{line}: the student learns at one end alone; bind another {binding}, over all of the path"
        )
    return Note(what, line)


def cautions(rows: Sequence[object]) -> list[Caution]:
    """Those of the rows that warn."""
    return [row for row in rows if isinstance(row, Caution)]
