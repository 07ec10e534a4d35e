"""The inception score: exp of the mean divergence of a sample's class probabilities from their mean."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric
from realuid.utils.limits import check_at_most

__all__ = ["InceptionScore"]


class InceptionScore(FeatureMetric):
    """`inception_score`: exp E KL(p(y|x) | p(y)) (Salimans et al., 2016, arXiv:1606.03498), mean over `splits` parts of
    the generated images in their order; `inception_score_spread`: its standard deviation (divisor n) over the parts.

    It uses no real images: one sharp image of each class, repeated, scores as high as the data. With the TF Inception
    the probabilities are those of its 1008 outputs without their bias, as in the published scores.

    Args:
        splits: number of parts.

    Raises:
        ValueError: if `splits` is less than 1, or beyond reason.
    """

    names = ("inception_score", "inception_score_spread")
    higher_is_better = True
    reads = ("logits",)
    reads_real = ()

    def __init__(self, *, splits: int = 10) -> None:
        if splits < 1:
            raise ValueError(f"InceptionScore.splits must be at least 1, got {splits}")
        check_at_most(10_000, splits=splits)
        self.splits = splits
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"splits": self.splits}

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        scores = []
        for part in generated.tensor_split(min(self.splits, len(generated))):
            logs = part.double().log_softmax(dim=1)
            p = logs.exp()
            scores.append((p * (logs - p.mean(dim=0).log())).sum(dim=1).mean().exp())
        values = torch.stack(scores)
        spread = values.std(unbiased=False).item()
        return {"inception_score": values.mean().item(), "inception_score_spread": spread}
