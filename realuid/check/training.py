"""A linear student, in the file's own form, trained by the loss with exact teacher and exact optimal fake."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from realuid.check.game import points
from realuid.check.gaussian import UNCONDITIONAL, GaussianPairs, Moments
from realuid.check.regression import sources
from realuid.check.table import Row, failure
from realuid.conditions import Condition
from realuid.distillation.students import Student
from realuid.losses import DistillationLoss
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight

STEPS, BATCH, RATE = 300, 512, 0.05
BOUND = 0.08
"""In standard deviations of the data."""


class Affine(Network):
    """`network(x [B, n], time [B], condition) -> [B, out_multiplier]`: an affine map for each time that it is asked at.

    It starts at zero.

    Args:
        in_multiplier: n.
        out_multiplier: outputs.
    """

    in_multiplier: int
    out_multiplier: int

    def __init__(self, in_multiplier: int, out_multiplier: int) -> None:
        super().__init__()
        self.in_multiplier, self.out_multiplier = in_multiplier, out_multiplier
        self.maps = nn.ParameterDict()

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        name = f"{float(time[0]):.6e}".replace(".", "_")
        if name not in self.maps:
            self.maps[name] = nn.Parameter(
                torch.zeros(self.out_multiplier, self.in_multiplier + 1, dtype=torch.float64)
            )
        weight = self.maps[name]
        return x @ weight[:, :-1].T + weight[:, -1]


def linear(student: Student) -> Student:
    """The student with an affine network on scalars in place of its own."""
    model = student.model
    in_multiplier = 1 + model.source_conditioned + student.noise
    student.model = MatchingModel(
        network=Affine(in_multiplier, model.target.out_multiplier),
        interpolant=model.interpolant,
        coupling=model.coupling,
        target=model.target,
        preconditioning=model.preconditioning,
        source_conditioned=model.source_conditioned,
    )
    return student


class _Draws:
    """Fresh normals that are remembered by their number, or set by hand."""

    def __init__(self, count: int, generator: torch.Generator | None) -> None:
        self.count, self.generator = count, generator
        self.drawn: dict[int, Tensor] = {}

    def __call__(self, k: int) -> Tensor:
        if k not in self.drawn:
            shape = (self.count, 1)
            self.drawn[k] = (
                torch.zeros(shape, dtype=torch.float64)
                if self.generator is None
                else torch.randn(shape, generator=self.generator, dtype=torch.float64)
            )
        return self.drawn[k]


def coefficients(student: Student) -> tuple[float, float, float]:
    """(shift, slope, spread) of x1 = shift + slope x0 + spread e: the student is affine in x0 and its noises."""
    with torch.no_grad():
        zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
        still = _Draws(1, None)
        shift = student(zero, UNCONDITIONAL, still)
        slope = student(one, UNCONDITIONAL, still) - shift
        power = torch.zeros_like(shift)
        for k in list(still.drawn):
            pushed = _Draws(1, None)
            pushed.drawn[k] = one
            power += (student(zero, UNCONDITIONAL, pushed) - shift).square()
    return float(shift), float(slope), float(power.sqrt())


def made_moments(student: Student, data: GaussianPairs) -> Moments:
    """Moments of the pairs that the student makes, paired by the coupling's rule."""
    shift, slope, spread = coefficients(student)
    mean1 = shift + slope * data.moments.mean0
    variance1 = slope**2 * data.moments.variance0 + spread**2
    return data.moments.paired_with(data.coupling, mean1, variance1, slope)


def trained(
    student: Student,
    loss: DistillationLoss,
    data: GaussianPairs,
    law: TimeSampler,
    weight: Weight,
    teacher: GaussianPairs | None = None,
) -> Moments | None:
    """What the pairs of a linear student come to after some hundred steps; None if the loss was not finite.

    Args:
        student: whose form it has; its network is replaced.
        loss: with which it is trained, beside the optimal fake.
        data: the law of the real pairs.
        law: of the times.
        weight: w(t).
        teacher: what the teacher has learnt; the data's law if None.
    """
    student = linear(student)
    generator = torch.Generator().manual_seed(3)
    made_moments(student, data)  # the network makes its maps when first asked
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE, betas=(0.5, 0.99))
    u = (torch.arange(BATCH, dtype=torch.float64) + 0.5) / BATCH
    for step in range(STEPS):
        made = GaussianPairs(
            interpolant=data.interpolant,
            coupling=data.coupling,
            moments=made_moments(student, data),
            source_conditioned=data.source_conditioned,
        )
        start = sources(data.moments, BATCH, generator)
        x1 = student(start, UNCONDITIONAL, _Draws(BATCH, generator))
        x0 = _beside(data, made.moments, start, x1, generator)
        z = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        times = law.quantile(u[torch.randperm(BATCH, generator=generator)], data.interpolant)
        terms = points(loss, data, made, x0, x1, z, times, weight(data.interpolant.at(times)), teacher)
        objective = loss.generator_loss(terms)
        if not bool(torch.isfinite(objective)):
            return None
        optimizer.zero_grad()
        objective.backward()
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.step()
    return made_moments(student, data)


def training_rows(
    student: Student, loss: DistillationLoss, data: GaussianPairs, law: TimeSampler, weight: Weight
) -> list[Row]:
    """Where the student ends after some hundred steps."""
    found, wanted = trained(student, loss, data, law, weight), data.moments
    if found is None:
        return [failure("training: a linear student", "the loss is not finite")]
    s0, s1 = wanted.variance0**0.5, wanted.variance1**0.5
    mean_note = f"mean {found.mean1:.3f}, the data's {wanted.mean1:.3f}"
    std_note = f"std {found.variance1**0.5:.3f}, the data's {s1:.3f}"
    rows = [
        Row("training: error of the student's mean, in std", abs(found.mean1 - wanted.mean1) / s1, BOUND, mean_note),
        Row("training: relative error of its std", abs(found.variance1**0.5 / s1 - 1), BOUND, std_note),
    ]
    if data.coupling.keeps_source:
        error = abs(found.covariance - wanted.covariance) / (s0 * s1)
        rows.append(Row("training: error of its correlation with x0", error, BOUND))
    return rows


def _beside(data: GaussianPairs, made: Moments, start: Tensor, x1: Tensor, generator: torch.Generator) -> Tensor:
    """The x0 that the coupling's rule puts beside generated samples."""
    if data.coupling.keeps_source:
        return start
    if data.coupling.independent:
        return sources(data.moments, len(start), generator)
    scale = (made.variance0 / made.variance1) ** 0.5 if made.variance1 else 0.0
    return (made.mean0 + scale * (x1 - made.mean1)).detach()  # an assignment at its Gaussian limit
