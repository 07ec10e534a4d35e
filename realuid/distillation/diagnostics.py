"""Diagnostics of a distillation: whether it is healthy.

All are means over samples, and so add up over micro-batches, processes and steps."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.losses import Terms
from realuid.losses.base import teacher_of
from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import TimeSampler
from realuid.training.spread import spread_terms

QUARTERS = 4


def quartiles(law: TimeSampler, path: Interpolant, device: torch.device) -> Tensor:
    """The times `[3]`, ascending, between which a quarter of the drawn times lies each."""
    return law.quantile(torch.tensor([0.25, 0.5, 0.75], device=device), path).sort().values


def gap_by_time(terms: Terms, t: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Mean of ||f* - f||^2 in each quarter of the drawn times: `gap_q1` (least t) to `gap_q4`.

    Args:
        terms: of generated samples.
        t: their times `[B]`.
        edges: see `quartiles`.
    """
    distance = (teacher_of(terms) - terms.fake).detach().flatten(1).square().sum(1)
    members = torch.nn.functional.one_hot(torch.bucketize(t, edges.to(t.dtype)), QUARTERS).to(distance.dtype)
    means = QUARTERS * (distance[:, None] * members).mean(0)  # a quarter of all samples is expected in each
    return {f"gap_q{n}": mean for n, mean in enumerate(means.unbind(), start=1)}


def fake_error(terms: Terms) -> Tensor:
    """Mean squared error of the fake network's prediction of the sampled target, an entry; a scalar."""
    return (terms.target - terms.fake).detach().square().mean()


def moments(samples: Tensor, name: str) -> dict[str, Tensor]:
    """Mean of all entries of the samples `[B, ...]`, and what tells how far samples differ from each other (see
    `realuid.training.spread`); in units of the data, [-1, 1] for images."""
    return {f"{name}_mean": samples.detach().mean(), f"{name}_spread": spread_terms(samples)}
