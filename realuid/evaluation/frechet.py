"""The Frechet distance between the Gaussians that have the mean and covariance of two sets of features.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)),    m, S = mean and covariance (n - 1)

(Dowson and Landau, 1982; as a measure of generated images Heusel et al., 2017, arXiv:1706.08500.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric, Samples
from realuid.evaluation.moments import Moments, sums

__all__ = ["Frechet"]


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

    names = ("frechet",)
    halves = 10
    takes_moments = True

    def _declare(self) -> None:
        self.reference: Moments | None = None
        for side in ("real", "generated"):
            # Two numbers that do not know the width of the features yet; a sum over ranks adds them up.
            self.add_state(f"{side}_count", default=torch.tensor(0))
            self.add_state(f"{side}_total", default=torch.zeros(1, dtype=torch.float64))
            self.add_state(f"{side}_outer", default=torch.zeros(1, 1, dtype=torch.float64))

    def refer_to(self, moments: Moments) -> None:
        self.reference = moments

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        return {"frechet": frechet_distance(Moments.of(generated), Moments.of(real))}

    def _add(self, side: str, samples: Samples, rows: Tensor) -> None:
        if side == "real":
            self.reference = None
        total, outer = sums(samples["features"])
        for state, value in (("count", len(rows)), ("total", total), ("outer", outer)):
            self.states[f"{side}_{state}"] = self.states[f"{side}_{state}"] + value

    def compute(self) -> dict[str, float]:
        real = self.reference or self._moments("real")
        if not self.together:  # else these are the sums of all ranks, which this rank forgets again
            self.reference = real
        return {"frechet": frechet_distance(self._moments("generated"), real)}

    def _moments(self, side: str) -> Moments:
        return Moments.of_sums(*(self.states[f"{side}_{state}"] for state in ("count", "total", "outer")))
