"""Targets, conversions and preconditioning of one matching model."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.check.gaussian import UNCONDITIONAL, ExactModel, GaussianPairs, Moments
from realuid.check.table import Note, Row, failure
from realuid.models.matching import MatchingModel, PosteriorMean
from realuid.paths.conversions import UndeterminedError
from realuid.paths.targets import Data, Noise, PathNoise, Score, Target, Velocity

DRAWS = 200_000


def sources(moments: Moments, count: int, generator: torch.Generator) -> Tensor:
    """x0 `[count, 1]`, float64."""
    return moments.mean0 + moments.variance0**0.5 * torch.randn(count, 1, generator=generator, dtype=torch.float64)


def pairs(moments: Moments, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(x0, x1) `[count, 1]` each, float64."""
    x0 = sources(moments, count, generator)
    rest = max(moments.variance1 - moments.covariance**2 / moments.variance0, 0.0) ** 0.5
    mean1 = moments.mean1 + moments.covariance / moments.variance0 * (x0 - moments.mean0)
    return x0, mean1 + rest * torch.randn(count, 1, generator=generator, dtype=torch.float64)


def optimum_row(law: GaussianPairs, target: Target, times: Tensor, who: str) -> Row:
    """E[f_t | x_t] must be the least-squares fit of the sampled target, whose covariances follow from its sampled
    coefficients alone."""
    m, k = law.moments, law.interpolant.at(times)
    worst = 0.0
    one = torch.ones_like(k.a)
    for index, row in enumerate(target.rows(k)):
        c0, c1, cz = row.sampled
        rest = m.variance1 - m.covariance**2 / m.variance0
        slope = m.covariance / m.variance0
        # Coefficients on independent standard normals behind x0, the rest of x1, and z.
        f = torch.stack([(c0 + c1 * slope) * m.variance0**0.5, c1 * max(rest, 0.0) ** 0.5, cz])
        x = torch.stack([(k.a + k.b * slope) * m.variance0**0.5, k.b * max(rest, 0.0) ** 0.5, k.g])
        if law.source_conditioned:
            f, x = f[1:], x[1:]
        gain = (f * x).sum(0) / (x * x).sum(0)
        x0 = torch.full((len(times), 1), m.mean0, dtype=torch.float64)
        mean_x = (k.a * m.mean0 + k.b * m.mean1)[:, None]
        mean_f = c0 * m.mean0 + c1 * m.mean1
        for offset in (-1.5, 0.0, 2.0):
            found = law.predict(mean_x + offset, times, UNCONDITIONAL, target, x0)[:, index]
            wanted = mean_f + gain * offset
            worst = max(worst, float(((found - wanted).abs() / (one + wanted.abs())).max()))
    return Row(f"{who}: regression optimum", worst, 1e-6, f"E[{target}] against least squares")


def conversion_row(
    model: PosteriorMean, law: GaussianPairs, target: Target, times: Tensor, who: str, bound: float = 1e-4
) -> Row:
    """The model's answer for `target`, from an exact native prediction, against the closed form."""
    what = f"{who}: {target.name} from the prediction"
    try:
        model.check(target, times)
    except ValueError as error:
        return failure(what, str(error))
    generator = torch.Generator().manual_seed(0)
    x0, x1 = pairs(law.moments, len(times) * 64, generator)
    t = times.repeat_interleave(64)
    k = law.interpolant.at(t)
    x_t = law.interpolant.interpolate(k, x0, x1, torch.randn(x0.shape, generator=generator, dtype=torch.float64))
    found, wanted = model.predict(x_t, t, UNCONDITIONAL, target, x0), law.predict(x_t, t, UNCONDITIONAL, target, x0)
    off = ((found - wanted).abs() / (1 + wanted.abs())).max()
    return Row(what, float(off), bound, f"at {float(times.min()):.4g} to {float(times.max()):.4g}")


def determined(model: ExactModel, law: GaussianPairs, times: Tensor) -> tuple[list[Row], list[str]]:
    """Every standard target that the prediction claims to determine at these times; and those that it does not."""
    rows, refused = [], []
    for target in (Velocity(), Data(), Noise(), Score(), PathNoise()):
        try:
            model.check(target, times)
        except UndeterminedError:
            refused.append(type(target).__name__)
            continue
        rows.append(conversion_row(model, law, target, times, "conversion"))
    return rows, refused


def preconditioning_rows(model: MatchingModel, moments: Moments, times: Tensor) -> list[Row | Note]:
    """Standard deviations of the network's input and of what is left for it to learn, by samples."""
    name = type(model.preconditioning).__name__
    try:
        model.preconditioning.check(model.interpolant.at(times), model.target)
    except ValueError as error:
        return [failure("preconditioning: usable", str(error))]
    worst, spread = 0.0, []
    generator = torch.Generator().manual_seed(1)
    for t in times.tolist():
        k = model.interpolant.at(torch.tensor([t], dtype=torch.float64))
        scalings = model.preconditioning(k, model.target)
        if scalings is None:
            return [Note("preconditioning: none", "the network is given x_t and t as they are")]
        x0, x1 = pairs(_centred(moments), DRAWS, generator)
        z = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        x_t = k.a * x0 + k.b * x1 + k.g * z
        stds = [float((scalings.c_in * x_t).std())]
        for row, skip, out in zip(model.target.rows(k), scalings.c_skip, scalings.c_out, strict=True):
            c0, c1, cz = row.sampled
            stds.append(float(((c0 * x0 + c1 * x1 + cz * z - skip * x_t) / out).std()))
        spread += stds
        worst = max([worst, *(abs(std - 1) for std in stds)])
    note = f"{name}: standard deviations {min(spread):.3g} to {max(spread):.3g} of input and effective target"
    if not model.preconditioning.unit_variance:
        return [Note("preconditioning: no claim of unit variance", note)]
    return [Row("preconditioning: distance from unit variance", worst, 0.02, note)]


def _centred(m: Moments) -> Moments:
    return Moments(0.0, 0.0, m.variance0, m.variance1, m.covariance)
