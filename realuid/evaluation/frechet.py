"""The Frechet distance between the Gaussians that have the mean and covariance of two sets of features.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)),    m, S = mean and covariance (n - 1)

(Dowson and Landau, 1982; as a measure of generated images Heusel et al., 2017, arXiv:1706.08500.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric

__all__ = ["Frechet"]


@dataclass(frozen=True)
class Moments:
    """Mean `[d]` and covariance `[d, d]` (of divisor n - 1) of features, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of_sums(cls, count: Tensor | int, total: Tensor, outer: Tensor) -> Moments:
        """From n, the sum of x `[d]` and the sum of x x^T `[d, d]`.

        Raises:
            ValueError: if n < 2.
        """
        n = int(count)
        if n < 2:
            raise ValueError(f"mean and covariance need at least 2 images, got {n}")
        mean = total / n
        return cls(mean, (outer - n * torch.outer(mean, mean)) / (n - 1))

    @classmethod
    def of(cls, features: Tensor, batch: int = 5000) -> Moments:
        """Of features `[n, d]`."""
        total, outer = sums(features, batch)
        return cls.of_sums(len(features), total, outer)


def sums(features: Tensor, batch: int = 5000) -> tuple[Tensor, Tensor]:
    """Sum of x `[d]` and of x x^T `[d, d]` over features `[n, d]`, in float64, a part of them at a time."""
    size = features.shape[1]
    total = torch.zeros(size, dtype=torch.float64, device=features.device)
    outer = torch.zeros(size, size, dtype=torch.float64, device=features.device)
    for part in features.split(batch):
        x = part.double()
        total += x.sum(dim=0)
        outer += x.T @ x
    return total, outer


def frechet_distance(one: Moments, other: Moments) -> float:
    """The distance of the module's formula.

    tr (S1 S2)^(1/2) is the sum of the singular values of R1^T R2 for any S = R R^T. So no root is taken of a product,
    whose smallest eigenvalues are rounding errors where there are fewer images than features.
    """
    other = Moments(other.mean.to(one.mean.device), other.covariance.to(one.mean.device))
    shift = (one.mean - other.mean).square().sum()
    cross = torch.linalg.svdvals(_root(one.covariance).T @ _root(other.covariance)).sum()
    distance = shift + one.covariance.trace() + other.covariance.trace() - 2 * cross
    return max(distance.item(), 0.0)  # equal sets come out at zero plus or minus rounding


def _root(covariance: Tensor) -> Tensor:
    """R `[d, r]` with R R^T = S `[d, d]`, of S's numerical rank r."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


class Frechet(FeatureMetric):
    """`frechet`: the Frechet distance to the real images; FID where the features are those of the TF Inception.

    Streaming: n, sum and outer products in float64. It depends on the number of images on either side, and falls with
    it: compare only equal numbers.
    """

    figures = ("frechet",)
    halves = 10

    def _declare(self) -> None:
        self.reference: Moments | None = None
        for name in ("real", "made"):
            # Two numbers that do not know the width of the features yet; a sum over ranks adds them up.
            self.add_state(f"{name}_count", default=torch.tensor(0), dist_reduce_fx="sum")
            self.add_state(f"{name}_total", default=torch.zeros(1, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{name}_outer", default=torch.zeros(1, 1, dtype=torch.float64), dist_reduce_fx="sum")

    def refer_to(self, moments: Moments) -> None:
        """Compares with given moments, of which there are no images, instead of with real features."""
        self.reference = moments

    def judge(self, real: Tensor, made: Tensor) -> dict[str, float]:
        return {"frechet": frechet_distance(Moments.of(made), Moments.of(real))}

    def _add(self, name: str, features: Tensor, rows: Tensor) -> None:
        if name == "real":
            self.reference = None
        total, outer = sums(features)
        for state, value in (("count", len(features)), ("total", total), ("outer", outer)):
            setattr(self, f"{name}_{state}", getattr(self, f"{name}_{state}") + value)

    def compute(self) -> dict[str, float]:
        real = self.reference or self._moments("real")
        if not self._is_synced:  # else these are the sums of all ranks, which this rank forgets again
            self.reference = real
        return {"frechet": frechet_distance(self._moments("made"), real)}

    def _moments(self, name: str) -> Moments:
        return Moments.of_sums(*(getattr(self, f"{name}_{state}") for state in ("count", "total", "outer")))
