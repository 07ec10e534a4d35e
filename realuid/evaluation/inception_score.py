"""The inception score: exp of the mean divergence of a sample's class probabilities from their mean."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric

__all__ = ["InceptionScore"]


class InceptionScore(FeatureMetric):
    """`inception_score`: exp E KL(p(y|x) | p(y)) (Salimans et al., 2016, arXiv:1606.03498), mean over `splits` parts of
    the generated images in their order; `inception_score_spread`: its standard deviation (divisor n) over the parts.

    It looks at no real image: sharp images of one in every class score as high as the data. With the TF Inception the
    probabilities are those of its 1008 outputs without their bias, as in the published scores.

    Raises:
        ValueError: if there is no part.
    """

    figures = ("inception_score", "inception_score_spread")
    higher_is_better = True
    reads = "logits"
    needs_real = False

    def __init__(self, *, splits: int = 10) -> None:
        if splits < 1:
            raise ValueError(f"InceptionScore.splits must be at least 1, got {splits}")
        self.splits = splits
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"splits": self.splits}

    def judge(self, real: Tensor, made: Tensor) -> dict[str, float]:
        scores = []
        for part in made.tensor_split(min(self.splits, len(made))):
            logs = part.double().log_softmax(dim=1)
            p = logs.exp()
            scores.append((p * (logs - p.mean(dim=0).log())).sum(dim=1).mean().exp())
        values = torch.stack(scores)
        spread = values.std(unbiased=False).item()
        return {"inception_score": values.mean().item(), "inception_score_spread": spread}
