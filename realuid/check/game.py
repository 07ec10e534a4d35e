r"""The loss on Gaussians: its inner maximum point by point, its fixed point, value and gradient by quadrature.

For given x_t the fake network's loss is a function of one number f, with the densities q of generated and p of real x_t
as weights. Where it is quadratic, as in all losses but the normalised one, one Newton step from zero gives the optimal
fake as a differentiable function of x_t.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from realuid.check.gaussian import UNCONDITIONAL, GaussianPairs, Moments
from realuid.check.table import Note, Row, failed
from realuid.losses import DistillationLoss, GeneralRealUID, RealUID, Terms
from realuid.paths.interpolants import Coefficients

NODES = 40
GRID = 4001
NOT_QUADRATIC = "loss: not quadratic in the fake"

Points = tuple[Tensor, Coefficients]
"""x_t `[B, 1]`, and the path's coefficients at its times."""


@dataclass(frozen=True)
class Optimum:
    """The optimal fake at some points, with what it was found from; all `[B, out_multiplier]`."""

    fake: Tensor
    curvature: Tensor
    """Second derivative of the fake's loss, positive at a minimum."""
    slope: Tensor
    """First derivative there, zero at a minimum of a quadratic."""


def optimal_fake(
    loss: DistillationLoss,
    at: Points,
    teacher: Tensor,
    generated: Tensor,
    share: Tensor,
    real: Tensor | None = None,
) -> Optimum:
    """The fake network's optimum.

    Args:
        loss: whose fake loss is minimised.
        at: the points and their times.
        teacher: f* `[B, out_multiplier]`.
        generated: the generated samples' posterior mean f^theta.
        share: q / (p + q) `[B]`.
        real: the real samples' posterior mean; f* if None.
    """

    def objective(f: Tensor) -> Tensor:
        return fake_objective(loss, at, f, teacher, generated, share, 1 - share, real) * len(f)

    with torch.enable_grad():
        zero = torch.zeros_like(teacher).requires_grad_()
        (slope,) = torch.autograd.grad(objective(zero), zero, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), zero, create_graph=True)
        fake = -slope / curvature
        there = fake.detach().requires_grad_()
        (left,) = torch.autograd.grad(objective(there), there)
    return Optimum(fake, curvature.detach(), left)


def fake_objective(
    loss: DistillationLoss,
    at: Points,
    fake: Tensor,
    teacher: Tensor,
    generated: Tensor,
    q: Tensor,
    p: Tensor,
    real: Tensor | None = None,
) -> Tensor:
    """The loss's fake loss, mean over points of densities q and p, with the posterior means of generated and real
    samples (f* if None) for sampled targets, in which it is linear."""
    x_t, k = at
    c = teacher if real is None else real
    of_real = Terms(fake=fake, target=c, weight=p, teacher=teacher, x_t=x_t, k=k) if loss.uses_real_data else None
    return loss.fake_loss(Terms(fake=fake, target=generated, weight=q, teacher=teacher, x_t=x_t, k=k), of_real)


@dataclass(frozen=True)
class Generated:
    """A linear generator on scalars: x1 = shift + slope x0 + spread e, slope 0 unless it keeps its x0."""

    shift: Tensor
    slope: Tensor
    spread: Tensor

    def moments(self, data: Moments, law: GaussianPairs) -> Moments:
        shift, slope, spread = (float(x.detach()) for x in (self.shift, self.slope, self.spread))
        mean1, variance1 = shift + slope * data.mean0, slope**2 * data.variance0 + spread**2
        return data.paired_with(law.coupling, mean1, variance1, slope)

    def law(self, data: GaussianPairs) -> GaussianPairs:
        """The closed form for its samples on the data's path."""
        return GaussianPairs(
            interpolant=data.interpolant,
            coupling=data.coupling,
            moments=self.moments(data.moments, data),
            source_conditioned=data.source_conditioned,
        )


def generator_of(moments: Moments, keeps_source: bool) -> Generated:
    """The linear generator that makes pairs of these moments."""
    slope = moments.covariance / moments.variance0 if keeps_source else 0.0
    spread = max(moments.variance1 - slope**2 * moments.variance0, 0.0) ** 0.5
    numbers = (moments.mean1 - slope * moments.mean0, slope, spread)
    return Generated(*(torch.tensor(x, dtype=torch.float64) for x in numbers))


def value(loss: DistillationLoss, data: GaussianPairs, made: GaussianPairs, t: float, x0: float) -> Quadrature:
    """The inner maximum at one time (given one x0, for conditioned laws), by the trapezoidal rule over x_t."""
    time, source = torch.full((1,), t, dtype=torch.float64), torch.full((1, 1), x0, dtype=torch.float64)
    (m, s), (n, r) = data.spread(time, source), made.spread(time, source)
    low, high = float(torch.minimum(m - 9 * s, n - 9 * r)), float(torch.maximum(m + 9 * s, n + 9 * r))
    x = torch.linspace(low, high, GRID, dtype=torch.float64)[:, None]
    times, beside = time.expand(GRID), source.expand(GRID, 1)
    p, q = (law.log_density(x, times, beside).exp() for law in (data, made))
    f_star, f_made = (law.predict(x, times, UNCONDITIONAL, loss.target, beside) for law in (data, made))
    share = torch.sigmoid(made.log_density(x, times, beside) - data.log_density(x, times, beside))
    at = x, data.interpolant.at(times)
    best = optimal_fake(loss, at, f_star, f_made, share)
    width = (high - low) / (GRID - 1) * GRID  # the loss takes means over points
    found = width * (
        fake_objective(loss, at, f_star, f_star, f_made, q, p)
        - fake_objective(loss, at, best.fake, f_star, f_made, q, p)
    )
    relative = p + q > 1e-12 * float((p + q).max())
    return Quadrature(
        value=float(found.detach()),
        closed=_closed_form(loss, p, q, f_star, f_made) * width / GRID,
        curvature=float(best.curvature[relative].min()),
        slope=float((best.slope[relative].abs() / (1 + best.fake.detach()[relative].abs())).max()),
    )


@dataclass(frozen=True)
class Quadrature:
    value: float
    closed: float
    """The same by the paper's closed form; not a number where it has none."""
    curvature: float
    slope: float


def _has_closed_form(loss: DistillationLoss) -> TypeGuard[RealUID | GeneralRealUID]:
    """Not so of a subclass, which may weigh or add what it likes."""
    return type(loss) in (RealUID, GeneralRealUID)


def _closed_form(loss: DistillationLoss, p: Tensor, q: Tensor, f_star: Tensor, f_made: Tensor) -> float:
    """Sum of eq. 18 (lemmas 2 and 4) over points, for RealUID and its general form."""
    if not _has_closed_form(loss):
        return float("nan")
    alpha, beta = loss.alpha, loss.beta
    gamma = loss.gamma if isinstance(loss, GeneralRealUID) else alpha
    p, q = p[:, None], q[:, None]
    numerator = (beta * (p * f_star - q * f_made) + alpha * (q - p) * f_star).square()
    density = (1 - gamma) * p + gamma * q
    return float(torch.where(density > 0, numerator / density, 0.0).sum())


def loss_rows(loss: DistillationLoss, data: GaussianPairs, times: Tensor) -> list[Row | Note]:
    """Inner maximum, fixed point, value and gradient at a few times.

    The trial generators are shifted and narrower than the data; wider ones have no finite value if no real sample
    enters the quadratic term.
    """
    name = type(loss).__name__
    keeps = data.coupling.keeps_source
    at_data = generator_of(data.moments, keeps)
    scale = data.moments.variance1**0.5
    trial = Generated(at_data.shift + 0.25 * scale, 0.8 * at_data.slope, 0.9 * at_data.spread)
    if data.moments.variance1 <= data.moments.covariance**2 / data.moments.variance0 + 1e-12:  # no rest
        trial = Generated(at_data.shift + 0.25 * scale, at_data.slope, 0.9 * at_data.spread)
    m = data.moments
    points = [m.mean0 + e * m.variance0**0.5 for e in (-1.0, 0.5)] if data.source_conditioned else [m.mean0]
    made = trial.law(data)
    found = [value(loss, data, made, t, x0) for t, x0 in product(times.tolist(), points)]
    same = [value(loss, data, data, t, x0) for t, x0 in product(times.tolist(), points)]
    if all(abs(q.curvature) < 1e-9 for q in found):
        return [Note(NOT_QUADRATIC, f"{name}: its value and training are not checked")]
    curvature = min(q.curvature for q in (*found, *same))
    rows: list[Row | Note] = [
        Row("loss: least curvature of the inner problem", curvature, 1e-9, name, "at least"),
        Row("loss: slope at the optimal fake", max(q.slope for q in found), 1e-6, "one Newton step"),
    ]
    if failed(rows):
        return rows
    unit = max(q.value for q in found)
    rows.append(Row("loss: value with the data's own law", max(abs(q.value) for q in same) / unit, 1e-6, "fixed point"))
    rows.append(Row("loss: least value with another law", min(q.value for q in found), 0.0, "", "at least"))
    if _has_closed_form(loss):
        off = max(abs(q.value - q.closed) / max(abs(q.closed), 1e-3 * unit) for q in found)
        rows.append(Row("loss: value against eq. 18, by quadrature", off, 1e-4, f"at {len(found)} points"))
        rows += _gradient_rows(loss, data, trial, times[len(times) // 2 :][:1])
    return rows


def _gradient_rows(loss: DistillationLoss, data: GaussianPairs, trial: Generated, times: Tensor) -> list[Row]:
    """The generator's gradient is the derivative of the inner maximum (envelope theorem)."""
    if data.source_conditioned or not (data.coupling.independent or data.coupling.keeps_source):
        return []
    t = float(times[0])
    h = 1e-4

    def maximum(made: Generated) -> float:
        return value(loss, data, made.law(data), t, data.moments.mean0).value

    rows = []
    for name in ("shift", "spread"):
        up, down = (Generated(**{**vars(trial), name: vars(trial)[name] + sign * h}) for sign in (1, -1))
        wanted = (maximum(up) - maximum(down)) / (2 * h)
        found = generator_gradient(loss, data, trial, t, name)
        error = abs(found - wanted) / max(abs(wanted), 1e-3)
        rows.append(Row(f"loss: gradient in the generator's {name}", error, 5e-3, "against its finite difference"))
    return rows


def generator_gradient(loss: DistillationLoss, data: GaussianPairs, made: Generated, t: float, name: str) -> float:
    """d(generator loss)/d(one number of the generator) by Gauss-Hermite quadrature over (x0, e, z)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    grid = np.array(list(product(range(NODES), repeat=3)))
    e0, e1, z = (torch.tensor(nodes[grid[:, i]])[:, None] for i in range(3))
    mass = torch.tensor(np.prod(weights[grid], axis=1) / weights.sum() ** 3)
    numbers = {key: number.detach().clone().requires_grad_() for key, number in vars(made).items()}
    x0 = data.moments.mean0 + data.moments.variance0**0.5 * e0
    x1 = numbers["shift"] + numbers["slope"] * x0 + numbers["spread"] * e1
    times = torch.full((len(x0),), t, dtype=torch.float64)
    terms = points(loss, data, made.law(data), x0, x1, z, times, mass * len(x0))
    return float(torch.autograd.grad(loss.generator_loss(terms), numbers[name])[0])


def points(
    loss: DistillationLoss,
    data: GaussianPairs,
    made: GaussianPairs,
    x0: Tensor,
    x1: Tensor,
    z: Tensor,
    times: Tensor,
    weight: Tensor,
    teacher: GaussianPairs | None = None,
) -> Terms:
    """What the loss's generator step sees of generated pairs, f* (the data's own if None) and the optimal fake in
    closed form."""
    k = data.interpolant.at(times)
    x_t = data.interpolant.interpolate(k, x0, x1, z)

    def answer(law: GaussianPairs) -> Tensor:
        return law.predict(x_t, times, UNCONDITIONAL, loss.target, x0)

    with torch.set_grad_enabled(loss.differentiates_networks):
        f_data, f_made = answer(data), answer(made)
        f_star = f_data if teacher is None else answer(teacher)
        share = torch.sigmoid(made.log_density(x_t, times, x0) - data.log_density(x_t, times, x0))
        fake = optimal_fake(loss, (x_t, k), f_star, f_made, share, f_data).fake
    if not loss.differentiates_networks:
        fake, f_star = fake.detach(), f_star.detach()
    return Terms(fake=fake, target=loss.target.sample(k, x0, x1, z), weight=weight, x_t=x_t, k=k, teacher=f_star)
