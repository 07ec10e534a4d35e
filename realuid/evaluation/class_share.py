"""The share of generated images of chosen classes: it shows whether a student draws what its teacher never saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.evaluation.metric import FeatureMetric

__all__ = ["ClassShare"]


class ClassShare(FeatureMetric):
    """`class_share`: share in [0, 1] of the generated images that the feature network reads as one of `labels`.

    It uses neither real images nor the labels that were asked for.

    Args:
        labels: the chosen classes, from 0.

    Raises:
        ValueError: if no label is given; when computed, if the network has no such class.
    """

    names = ("class_share",)
    higher_is_better = True
    reads = ("logits",)
    reads_real = ()
    least = 1

    def __init__(self, *, labels: Sequence[int]) -> None:
        if not labels or min(labels) < 0:
            raise ValueError(f"ClassShare.labels must name classes from 0 on, got {tuple(labels)}")
        self.labels = tuple(sorted(set(labels)))
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"labels": list(self.labels)}

    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        if max(self.labels) >= generated.shape[1]:
            raise ValueError(
                f"ClassShare.labels names {max(self.labels)}, the network knows {generated.shape[1]} classes"
            )
        chosen = torch.isin(generated.argmax(dim=1), torch.tensor(self.labels, device=generated.device))
        return {"class_share": chosen.double().mean().item()}
