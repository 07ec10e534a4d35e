"""The many-step sampler carries source to data."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.check.gaussian import UNCONDITIONAL, Moments
from realuid.check.regression import sources
from realuid.check.table import Row, failure
from realuid.models.matching import PosteriorMean
from realuid.samplers import Sampler

COUNT = 10_000
STEPS = 200
BOUND = 0.08
"""In standard deviations of the data; the sampler's own discretisation is part of it."""


def sampler_rows(sampler: Sampler, model: PosteriorMean, moments: Moments) -> list[Row]:
    """Mean and standard deviation of what the sampler makes from the source by an exact model; where the model is told
    x0, also the covariance of the two."""
    asked, sampler.steps = sampler.steps, max(sampler.steps, STEPS)
    generator = torch.Generator().manual_seed(2)
    half = sources(moments, COUNT // 2, generator)
    x0 = torch.cat([half, 2 * moments.mean0 - half])  # antithetic: the mean is exact

    def noise(k: int) -> Tensor:
        return torch.randn(x0.shape, generator=torch.Generator().manual_seed(100 + k), dtype=torch.float64)

    try:
        x1 = sampler(model, x0, UNCONDITIONAL, noise)
    except ValueError as error:
        return [failure("sampler: usable", str(error))]
    finally:
        sampler.steps = asked
    s1 = moments.variance1**0.5
    note = f"{sampler.name}, checked with {max(asked, STEPS)} steps"
    rows = [
        Row("sampler: error of the data's mean, in std", abs(float(x1.mean()) - moments.mean1) / s1, BOUND, note),
        Row("sampler: relative error of the data's std", abs(float(x1.std()) / s1 - 1), BOUND),
    ]
    if model.source_conditioned:
        s0 = moments.variance0**0.5
        found = float(((x0 - x0.mean()) * (x1 - x1.mean())).mean())
        off = abs(found - moments.covariance) / (s0 * s1)
        rows.append(Row("sampler: error of the correlation with x0", off, BOUND))
    return rows
