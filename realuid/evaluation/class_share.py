"""How many of the generated images are of some classes: whether a student draws what its teacher never saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric

__all__ = ["ClassShare"]


class ClassShare(FeatureMetric):
    """`class_share`: share in [0, 1] of the generated images that the feature network reads as one of `labels`.

    It looks at no real image, and at no label that was asked for.

    Raises:
        ValueError: if no label is given; when computed, if the network has no such class.
    """

    figures = ("class_share",)
    higher_is_better = True
    reads = "logits"
    needs_real = False

    def __init__(self, *, labels: Sequence[int]) -> None:
        if not labels or min(labels) < 0:
            raise ValueError(f"ClassShare.labels must name classes from 0 on, got {tuple(labels)}")
        self.labels = tuple(sorted(set(labels)))
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"labels": list(self.labels)}

    def judge(self, real: Tensor, made: Tensor) -> dict[str, float]:
        if max(self.labels) >= made.shape[1]:
            raise ValueError(f"ClassShare.labels names {max(self.labels)}, the network knows {made.shape[1]} classes")
        chosen = torch.isin(made.argmax(dim=1), torch.tensor(self.labels, device=made.device))
        return {"class_share": chosen.double().mean().item()}
