"""The kernel distance (KID): the squared maximum mean discrepancy under a cubic kernel, without bias.

    k(x, y) = (x.y / d + 1)^3
    E k(x, x') + E k(y, y') - 2 E k(x, y)

(Binkowski et al., 2018, arXiv:1801.01401.) Between equal distributions its expectation is zero for any number of
images, where a Frechet distance has a floor that falls with their number; so it is the one to trust on few images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric
from realuid.keys import key

__all__ = ["KernelDistance"]


class KernelDistance(FeatureMetric):
    """`kid`: mean of the unbiased estimate over random subsets of either side; `kid_error`: its standard error.

    The subsets overlap where they hold more images than there are, so the error reckons with as many independent ones
    as there are disjoint ones. Drawn by a generator of its own: neither reads nor moves the global random state.

    Args:
        subsets: how many are drawn.
        size: images a subset; fewer where there are not so many.
        seed: of the draws.

    Raises:
        ValueError: if there are fewer than two subsets, or of fewer than two images.
    """

    figures = ("kid", "kid_error")
    halves = 1  # averaged over subsets as it is

    def __init__(self, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> None:
        if subsets < 2 or size < 2:
            raise ValueError(f"KernelDistance needs subsets and size of at least 2, got {subsets} and {size}")
        self.subsets, self.size, self.seed = subsets, size, seed
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"subsets": self.subsets, "size": self.size, "seed": self.seed}

    def judge(self, real: Tensor, made: Tensor) -> dict[str, float]:
        size = min(self.size, len(real), len(made))
        generator = torch.Generator().manual_seed(key("kernel distance", self.seed))
        values = []
        for _ in range(self.subsets):
            some = [side[_subset(len(side), size, generator).to(side.device)].double() for side in (real, made)]
            values.append(squared_discrepancy(*some))
        estimates = torch.tensor(values, dtype=torch.float64)
        disjoint = max(1, min(self.subsets, min(len(real), len(made)) // size))
        return {"kid": estimates.mean().item(), "kid_error": estimates.std().item() / math.sqrt(disjoint)}


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
