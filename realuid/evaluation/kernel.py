"""The kernel distance (KID): the squared maximum mean discrepancy under a cubic kernel, without bias.

    k(x, y) = (x.y / d + 1)^3
    E k(x, x') + E k(y, y') - 2 E k(x, y)

(Binkowski et al., 2018, arXiv:1801.01401.) Between equal distributions its expectation is zero for any number of
images, where a Frechet distance has a floor that falls with their number; so it is the one to trust on few images.

Its standard error is that of the estimate from all pairs of n real and m generated images (a U-statistic), whose
variance falls into five parts (Hoeffding, 1948), with k centred in one argument or in both:

    4 V[a]/n + 4 V[b]/m + 2 V[k~(x, x')]/(n (n - 1)) + 2 V[k~(y, y')]/(m (m - 1)) + 4 V[k~(x, y)]/(n m)
    a(x) = E k(x, X') - E k(x, Y),   b(y) = E k(y, Y') - E k(y, X)

and, on top of it, of the mean over finitely many subsets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric
from realuid.utils.keys import key
from realuid.utils.limits import check_at_most

__all__ = ["KernelDistance"]

LOOKED_AT = 10
"""Subsets that the standard error is estimated from."""


class KernelDistance(FeatureMetric):
    """`kid`: mean of the unbiased estimate over random subsets of either side; `kid_error`: its standard error.

    Drawn by a generator of its own: neither reads nor moves the global random state.

    Args:
        subsets: how many are drawn.
        size: images of a subset, at most as many as there are.
        seed: of the draws.

    Raises:
        ValueError: if there are fewer than two subsets, or of fewer than two images, or numbers are beyond
            reason.
    """

    names = ("kid", "kid_error")
    halves = 1  # averaged over subsets as it is

    def __init__(self, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> None:
        if subsets < 2 or size < 2:
            raise ValueError(f"KernelDistance needs subsets and size of at least 2, got {subsets} and {size}")
        check_at_most(100_000, subsets=subsets)
        check_at_most(1_000_000, size=size)
        self.subsets, self.size, self.seed = subsets, size, seed
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"subsets": self.subsets, "size": self.size, "seed": self.seed}

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        size = min(self.size, len(real), len(generated))
        generator = torch.Generator().manual_seed(key("kernel distance", self.seed))
        values, variances = [], []
        for number in range(self.subsets):
            x, y = (side[_subset(len(side), size, generator).to(side.device)].double() for side in (real, generated))
            values.append(squared_discrepancy(x, y))
            if number < LOOKED_AT:
                variances.append(_variance(x, y, len(real), len(generated)))
        estimates = torch.tensor(values, dtype=torch.float64)
        of_all = max(sum(variances) / len(variances), 0.0)  # an estimate, which may come out below zero
        of_draws = estimates.var().item() / self.subsets
        return {"kid": estimates.mean().item(), "kid_error": math.sqrt(of_all + of_draws)}


def _subset(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` different numbers below `count`, int64 `[size]`."""
    return torch.randperm(count, generator=generator)[:size]


def squared_discrepancy(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from features `[m, d]` and `[n, d]`, float64."""
    xx, yy, xy = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
    m, n = len(x), len(y)
    within = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return (within - 2 * xy.mean()).item()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    base = x @ y.T / x.shape[1] + 1
    return base * base * base


def _variance(x: Tensor, y: Tensor, n: int, m: int) -> float:
    """Variance of the estimate from n real and m generated images, itself estimated from features `[s, d]` of some real
    ones and of as many generated ones, float64."""
    s, xy = len(x), _kernel(x, y)
    across = (xy - xy.mean(0) - xy.mean(1, keepdim=True) + xy.mean()).square().sum().item() / (s - 1) ** 2
    total = 4 * across / (n * m)
    for side, others, count in ((x, xy, n), (y, xy.T, m)):
        kernel = _kernel(side, side).fill_diagonal_(0.0)
        rows = kernel.sum(1)
        # Centred so that what is left has no bias off the diagonal (Szekely and Rizzo, 2014, arXiv:1310.2926).
        pairs = max(s - 2, 1)
        centred = kernel - rows / pairs - rows[:, None] / pairs + rows.sum() / (pairs * (s - 1))
        within = centred.fill_diagonal_(0.0).square().sum().item() / (s * max(s - 3, 1))
        alone = (rows / (s - 1) - others.mean(1)).var().item() - within / (s - 1) - across / s
        total += 4 * alone / count + 2 * within / (count * (count - 1))
    return total
