r"""Where a student ends whose teacher is wrong (docs/real_data.md), on isotropic Gaussians.

The teacher is the exact posterior mean of another Gaussian than the data's. For a generated Gaussian the inner maximum
of the loss is the mean of h (f* - f)^2 / 2 over points of the path, with f the optimal fake and h the curvature of the
fake loss, summed over times. Its minimum over the Gaussian's mean and standard deviation is where the student ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.check.game import optimal_fake
from realuid.check.gaussian import UNCONDITIONAL, GaussianPairs
from realuid.check.table import Note
from realuid.losses import DistillationLoss, GeneralRealUID, RealUID, Reflected, Terms
from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight

__all__ = ["Ending", "Noise", "ending", "noise", "wrong_teacher_notes"]

TIMES, GRID, DRAWS = 8, 401, 4096
WIDTH = 9
"""Standard deviations that the grid reaches beyond the means."""
ITERATIONS, STEP, CLOSE = 40, 1e-4, 1e-7
MEAN, STD = 0.3, 0.2
"""How far the teacher's mean and standard deviation are off, in the data's deviations, in all dimensions together."""


@dataclass(frozen=True)
class Ending:
    """The student's error over the teacher's at the fixed point, signed: 1 is as wrong as the teacher."""

    mean: float
    std: float
    both: float
    """Of the vector of the two, a length."""


@dataclass(frozen=True)
class _Points:
    """Where the inner maximum is summed: x_t `[B, d]`, its times `[B]`, the log of the density of points, and w(t) over
    their number `[B]`."""

    x_t: Tensor
    times: Tensor
    log_density: Tensor
    weight: Tensor


def ending(
    loss: DistillationLoss,
    data: GaussianPairs,
    time_sampler: TimeSampler,
    weight: Weight,
    *,
    dimension: int = 1,
    mean: float = MEAN,
    std: float = STD,
) -> Ending:
    """Where the student of a wrong teacher ends.

    Args:
        loss: whose inner maximum the student minimises.
        data: the data's pairs, not told x0, in each of the dimensions; independent.
        time_sampler: law of the times.
        weight: w(t).
        dimension: d. In one dimension by quadrature, beyond by draws from the laws of generated and real points.
        mean: how far the teacher's mean is off in the data's deviations, in all dimensions together.
        std: how far its standard deviation is.

    Raises:
        ValueError: if `dimension` is less than one.
    """
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension}")
    scale = data.moments.variance1**0.5
    right = torch.tensor([data.moments.mean1, scale], dtype=torch.float64)
    wrong = right + torch.tensor([mean, std], dtype=torch.float64) * scale / dimension**0.5
    teacher = _with(data, wrong)
    place = _grid if dimension == 1 else _draws(dimension)

    def residuals(numbers: Tensor, at: _Points) -> Tensor:
        return _residuals(loss, teacher, data, _with(data, numbers), at)

    found = _least_squares(residuals, lambda numbers: place(data, _with(data, numbers), time_sampler, weight), wrong)
    left, error = found - right, wrong - right
    ratio = left / torch.where(error == 0, torch.nan, error)
    return Ending(float(ratio[0]), float(ratio[1]), float(left.norm() / error.norm()))


def _with(data: GaussianPairs, numbers: Tensor) -> GaussianPairs:
    """The pairs with another mean and standard deviation of x1."""
    mean, std = numbers.tolist()
    moments = data.moments.paired_with(data.coupling, mean, std**2)
    return GaussianPairs(interpolant=data.interpolant, coupling=data.coupling, moments=moments)


def _residuals(
    loss: DistillationLoss, teacher: GaussianPairs, data: GaussianPairs, made: GaussianPairs, at: _Points
) -> Tensor:
    """Numbers whose squares sum to the inner maximum."""
    f_star, f_data, f_made = (
        law.predict(at.x_t, at.times, UNCONDITIONAL, loss.target) for law in (teacher, data, made)
    )
    p, q = (law.log_density(at.x_t, at.times) for law in (data, made))
    best = optimal_fake(loss, (at.x_t, data.interpolant.at(at.times)), f_star, f_made, torch.sigmoid(q - p), f_data)
    density = (torch.logaddexp(p, q) - at.log_density).exp() * at.weight
    return ((f_star - best.fake.detach()) * (best.curvature * density[:, None] / 2).sqrt()).flatten()


def _times(data: GaussianPairs, time_sampler: TimeSampler, count: int) -> Tensor:
    return time_sampler.quantile((torch.arange(count, dtype=torch.float64) + 0.5) / count, data.interpolant)


def _grid(data: GaussianPairs, made: GaussianPairs, time_sampler: TimeSampler, weight: Weight) -> _Points:
    """The trapezoidal rule over x_t at some times."""
    times = _times(data, time_sampler, TIMES)
    (m, s), (n, r) = data.spread(times), made.spread(times)
    low, high = torch.minimum(m - WIDTH * s, n - WIDTH * r), torch.maximum(m + WIDTH * s, n + WIDTH * r)
    x = low + (high - low) * torch.linspace(0, 1, GRID, dtype=torch.float64)
    density = -(high - low).log().expand_as(x)
    each = times.repeat_interleave(GRID)
    mass = weight(data.interpolant.at(each)) / len(each)
    return _Points(x.reshape(-1, 1), each, density.reshape(-1), mass)


def _draws(dimension: int) -> Callable[[GaussianPairs, GaussianPairs, TimeSampler, Weight], _Points]:
    """Draws from generated and real points alike, with the same normals each time."""

    def place(data: GaussianPairs, made: GaussianPairs, time_sampler: TimeSampler, weight: Weight) -> _Points:
        generator = torch.Generator().manual_seed(4)
        times = _times(data, time_sampler, DRAWS)
        normals = torch.randn(DRAWS, dimension, generator=generator, dtype=torch.float64)
        (m, s), (n, r) = data.spread(times), made.spread(times)
        first = (torch.arange(DRAWS) % 2 == 0)[:, None]
        x = torch.where(first, m, n) + torch.where(first, s, r) * normals
        density = torch.logaddexp(*(law.log_density(x, times) for law in (data, made))) - torch.tensor(2.0).log()
        return _Points(x, times, density, weight(data.interpolant.at(times)) / DRAWS)

    return place


def _least_squares(
    residuals: Callable[[Tensor, _Points], Tensor], place: Callable[[Tensor], _Points], start: Tensor
) -> Tensor:
    """Gauss-Newton steps on two numbers, halved until they go down."""
    numbers = start
    for _ in range(ITERATIONS):
        at = place(numbers)
        here = residuals(numbers, at)
        shifts = STEP * torch.eye(len(numbers), dtype=torch.float64)
        slopes = torch.stack([(residuals(numbers + h, at) - residuals(numbers - h, at)) / (2 * STEP) for h in shifts])
        step = -torch.linalg.solve(slopes @ slopes.T, slopes @ here)
        least = float(here.square().sum())
        while float((numbers + step)[1]) <= 0 or float(residuals(numbers + step, at).square().sum()) > least:
            step = step / 2
            if float(step.abs().max()) < CLOSE:
                return numbers
        numbers = numbers + step
        if float(step.abs().max()) < CLOSE:
            break
    return numbers


@dataclass(frozen=True)
class Noise:
    """What it costs the fake network, over UID's, with as many real as generated samples."""

    target: float
    """Variance of what it regresses on, over the weights with which it does."""
    answer: float
    """Variance of its gradient, in units of what the same error of the student changes there."""


def noise(loss: DistillationLoss, path: Interpolant) -> Noise | None:
    """The noise of a fake network's regression near the fixed point, in the middle of the path; None if it is none.

    Of a fake loss that is, for one sample, h f^2 / 2 - a f c + ..., the gradient's noise is a^2 times that of c.
    """
    numbers = [_second_derivatives(loss, path, of_real) for of_real in (False, True)] if loss.uses_real_data else []
    (h, a), (real_h, real_a) = numbers or [_second_derivatives(loss, path, False), (0.0, 0.0)]
    if h <= 0 or a == 0:
        return None
    spread = a**2 / h + (real_a**2 / real_h if real_h > 0 else 0.0)
    return Noise(spread / (h + real_h), 1 + (real_a / a) ** 2)


def _second_derivatives(loss: DistillationLoss, path: Interpolant, of_real: bool) -> tuple[float, float]:
    """h and a of one sample, by derivatives of the fake loss with respect to f and c."""
    numbers = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    f, c, teacher, real_f, real_c, real_teacher = (number.view(1, 1) for number in numbers.unbind())
    one = torch.ones(1, dtype=torch.float64)
    k, x_t = path.at(path.time(one / 2)), torch.zeros(1, 1, dtype=torch.float64)
    generated = Terms(fake=f, target=c, weight=one, teacher=teacher, x_t=x_t, k=k)
    real = Terms(fake=real_f, target=real_c, weight=one, teacher=real_teacher, x_t=x_t, k=k)
    loss_of_fake = loss.fake_loss(generated, real if loss.uses_real_data else None)
    (slope,) = torch.autograd.grad(loss_of_fake, numbers, create_graph=True)
    at = 3 if of_real else 0
    (second,) = torch.autograd.grad(slope[at], numbers)
    return float(second[at]), -float(second[at + 1])


def _share_by_algebra(loss: DistillationLoss) -> float | None:
    """What of the teacher's error makes f* the optimal fake: then no generator has anything to descend. None where real
    data enter in another way."""
    if isinstance(loss, Reflected):
        return 1 - loss.correction
    return None if loss.uses_real_data else 1.0


def wrong_teacher_notes(
    loss: DistillationLoss,
    data: GaussianPairs,
    time_sampler: TimeSampler,
    weight: Weight,
    dimensions: Sequence[int] = (1,),
) -> list[Note]:
    """The table: what of the teacher's error the student keeps, and what that costs."""
    name = type(loss).__name__
    inner = loss.loss if isinstance(loss, Reflected) else loss
    if data.source_conditioned or not data.coupling.independent:
        return [Note("wrong teacher: not known", "x1 is paired with its x0")]
    notes = []
    if isinstance(inner, (RealUID, GeneralRealUID)):
        for dimension in dimensions:
            kept = ending(loss, data, time_sampler, weight, dimension=dimension)
            both, mean, std = (round(share, 2) + 0.0 for share in (kept.both, kept.mean, kept.std))  # + 0.0: no -0.00
            shares = f"{both:.2f} of the teacher's error (mean {mean:.2f}, standard deviation {std:.2f})"
            notes.append(Note(f"wrong teacher: the student keeps, d = {dimension}", shares))
    elif (share := _share_by_algebra(loss)) is not None:
        notes.append(Note("wrong teacher: the student keeps", f"{share:.2f} of the teacher's error, in any dimension"))
    else:
        return [Note("wrong teacher: not known", f"the generator of {name} descends another function")]
    if cost := noise(loss, data.interpolant):
        line = f"{cost.target:.3g} times UID's; {cost.answer:.3g} times for the same change of the student"
        notes.append(Note("wrong teacher: variance of the fake's target", line))
    return notes
