"""Metrics of nearest neighbours: precision and recall, density and coverage, memorisation."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric
from realuid.utils.keys import key

__all__ = ["DensityCoverage", "Memorisation", "PrecisionRecall"]


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances `[m, n]` between features `[m, d]` and `[n, d]`, float64.

    They are computed from inner products. Rounding is about 1e-8 of the features' norm, so copies are that far apart
    instead of zero.
    """
    x, y = x.double(), y.double()
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * (x @ y.T)
    return squares.clamp(min=0).sqrt()


def nearest(x: Tensor, y: Tensor, k: int, *, skip_self: bool = False, batch: int = 2000) -> Tensor:
    """Distances `[m, k]`, ascending, from each of x `[m, d]` to its k nearest of y `[n, d]`.

    Args:
        skip_self: x is y, and no image is its own neighbour.
    """
    rows = []
    for start in range(0, len(x), batch):
        part = distances(x[start : start + batch], y)
        if skip_self:
            own = torch.arange(len(part), device=part.device)
            part[own, start + own] = torch.inf
        rows.append(part.topk(k, largest=False).values)
    return torch.cat(rows)


def inside(x: Tensor, centres: Tensor, radii: Tensor, batch: int = 2000) -> tuple[Tensor, Tensor]:
    """Balls around centres, and the points in them.

    Args:
        x: points `[m, d]`.
        centres: of the balls `[n, d]`.
        radii: of the balls `[n]`.
        batch: points a pass.

    Returns:
        For each point the number of balls that hold it `[m]`, and for each ball whether it holds a point `[n]`.
    """
    counts, held = [], torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    for part in x.split(batch):
        within = distances(part, centres) <= radii
        counts.append(within.sum(dim=1))
        held |= within.any(dim=0)
    return torch.cat(counts), held


def some(features: Tensor, limit: int, seed: int) -> Tensor:
    """At most `limit` of the features `[n, d]`, chosen at random by the seed; they keep their order."""
    if len(features) <= limit:
        return features
    generator = torch.Generator().manual_seed(key("neighbours", seed))
    return features[torch.randperm(len(features), generator=generator)[:limit].sort().values.to(features.device)]


class _Neighbours(FeatureMetric):
    """Balls to the k-th neighbour.

    Args:
        k: neighbours.
        limit: largest number of images used of either side, chosen at random; the work grows with its square.
        seed: of that choice.
    """

    higher_is_better = True

    def __init__(self, *, k: int, limit: int = 10_000, seed: int = 0) -> None:
        if k < 1 or limit <= k:
            raise ValueError(f"{type(self).__name__} needs k >= 1 and limit > k, got {k} and {limit}")
        self.k, self.limit, self.seed, self.least = k, limit, seed, k + 1
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"k": self.k, "limit": self.limit, "seed": self.seed}

    def _radii(self, features: Tensor) -> Tensor:
        if len(features) <= self.k:
            raise ValueError(f"{type(self).__name__} needs more than k = {self.k} images, got {len(features)}")
        return nearest(features, features, self.k, skip_self=True)[:, -1]

    def _limited(self, real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        return some(real, self.limit, self.seed), some(generated, self.limit, self.seed)


class PrecisionRecall(_Neighbours):
    """`precision`: share of the generated images that lie within the k-th neighbour's distance of some real image;
    `recall`: share of the real ones that lie so near to a generated one (Kynkaanniemi et al., 2019, arXiv:1904.06991).

    Args:
        k: neighbours; 3 in the paper.
        limit: largest number of images used of either side, chosen at random; both values depend on it.
        seed: of that choice.
    """

    names = ("precision", "recall")

    def __init__(self, *, k: int = 3, limit: int = 10_000, seed: int = 0) -> None:
        super().__init__(k=k, limit=limit, seed=seed)

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        real, generated = self._limited(real, generated)
        among_real, _ = inside(generated, real, self._radii(real))
        among_made, _ = inside(real, generated, self._radii(generated))
        return {
            "precision": (among_real > 0).double().mean().item(),
            "recall": (among_made > 0).double().mean().item(),
        }


class DensityCoverage(_Neighbours):
    """`density`: how many real balls hold a generated image, in units of k, so that 1 is the data's own;
    `coverage`: share of the real balls that hold a generated image (Naeem et al., 2020, arXiv:2002.09797).

    More robust than precision and recall: a single outlier among the generated images does not raise them.

    Args:
        k: neighbours; 5 in the paper.
        limit: largest number of images used of either side, chosen at random; both values depend on it.
        seed: of that choice.
    """

    names = ("density", "coverage")

    def __init__(self, *, k: int = 5, limit: int = 10_000, seed: int = 0) -> None:
        super().__init__(k=k, limit=limit, seed=seed)

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        real, generated = self._limited(real, generated)
        counts, held = inside(generated, real, self._radii(real))
        return {"density": counts.double().mean().item() / self.k, "coverage": held.double().mean().item()}


class Memorisation(FeatureMetric):
    """Whether generated images are copies of training images.

    `memorised`: share of the generated images whose nearest real image is less than a third as far as the second
    nearest (Yoon et al., 2023, "Diffusion probabilistic models generalize when they fail to memorize").
    `nearest_ratio`: median distance of a generated image to its nearest real one, over the median of real images to
    their nearest other: about 1 for new samples of the data's distribution, 0 for copies, above 1 off the data.
    `memorised_real`: the share that real images themselves reach: near-duplicates in the data.

    Args:
        limit: largest number of generated images, and for `memorised_real` of real ones, whose neighbours are sought;
            chosen at random. Neighbours are sought among all real images.
        seed: of that choice.
    """

    names = ("memorised", "nearest_ratio", "memorised_real")
    least = 3

    def __init__(self, *, limit: int = 10_000, seed: int = 0) -> None:
        if limit < 2:
            raise ValueError(f"Memorisation.limit must be at least 2, got {limit}")
        self.limit, self.seed = limit, seed
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"limit": self.limit, "seed": self.seed}

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        if len(real) < 3:
            raise ValueError(f"Memorisation needs at least 3 real images, got {len(real)}")
        to_real = nearest(some(generated, self.limit, self.seed), real, 2)
        chosen = some(torch.arange(len(real), device=real.device), self.limit, self.seed)
        own = nearest(real[chosen], real, 3)[:, 1:]  # the nearest of all is the image itself
        copied, twins = ((d[:, 0] < d[:, 1] / 3).double().mean().item() for d in (to_real, own))
        ratio = (to_real[:, 0].median() / own[:, 0].median().clamp(min=torch.finfo(torch.float64).tiny)).item()
        return {"memorised": copied, "nearest_ratio": ratio, "memorised_real": twins}
