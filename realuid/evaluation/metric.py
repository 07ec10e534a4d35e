"""What a metric of two sets of images is: a torchmetrics `Metric` that sees features, and which row each belongs to.

The row is the number of the image. It makes a figure independent of how the images were shared out: whatever the batch
size and the number of ranks, the features are put back in order before anything is drawn from them, padding (row -1) is
left out, and an image that was given twice is an error instead of a weight of two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["FeatureMetric"]


class FeatureMetric(Metric, ABC):
    """Judges the features of generated images beside those of real ones.

    `update` may be called on every rank with that rank's images; within `sync_context()`, `compute` sees those of all
    (outside it does not, so that one rank alone may ask). `reset` forgets the generated images and keeps the real ones.

    Attributes:
        figures: names of what `compute` returns; the first is what models are ranked by.
        higher_is_better: whether the first figure rises with quality.
        reads: `features`, or `logits` of the feature network's classes.
        needs_real: whether real images are looked at.
        halves: how often the real images are divided into two halves for a yardstick, if the first figure is a distance
            between distributions; 0 if it is none.
    """

    full_state_update = False
    figures: ClassVar[tuple[str, ...]]
    higher_is_better = False
    reads: ClassVar[str] = "features"
    needs_real: ClassVar[bool] = True
    halves: ClassVar[int] = 0

    real: list[Tensor]
    made: list[Tensor]
    real_rows: list[Tensor]
    made_rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)
        self._declare()

    def _declare(self) -> None:
        """The states: all features, and their rows."""
        for name in ("real", "made"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
            self.add_state(f"{name}_rows", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def judge(self, real: Tensor, made: Tensor) -> dict[str, float]:
        """The figures of features made `[M, d]` beside real ones `[N, d]`, both in the order of their rows."""

    def settings(self) -> dict[str, object]:
        """What two figures must share beside network and images to be comparable."""
        return {}

    def update(self, features: Tensor, rows: Tensor, *, real: bool) -> None:
        """Adds features `[n, d]` (or logits `[n, classes]`) of the images number `rows` `[n]`; -1 marks padding."""
        keep = rows.to(features.device) >= 0
        self._add("real" if real else "made", features[keep], rows.to(features.device)[keep])

    def _add(self, name: str, features: Tensor, rows: Tensor) -> None:
        getattr(self, name).append(features)
        getattr(self, f"{name}_rows").append(rows)

    def compute(self) -> dict[str, float]:
        """The figures by name.

        Raises:
            ValueError: if images are missing or were given twice.
        """
        made = self._ordered("made")
        return self.judge(self._ordered("real") if self.needs_real else made, made)

    def _ordered(self, name: str) -> Tensor:
        parts, numbers = getattr(self, name), getattr(self, f"{name}_rows")  # tensors, once gathered from other ranks
        features = parts if isinstance(parts, Tensor) else torch.cat(parts) if parts else torch.empty(0, 0)
        rows = numbers if isinstance(numbers, Tensor) else torch.cat(numbers) if numbers else torch.empty(0)
        order = rows.argsort()
        check_rows(rows[order], f"{type(self).__name__}, {'generated' if name == 'made' else name} images")
        return features[order]

    def reset(self) -> None:
        """Forgets the generated images."""
        kept = {name: getattr(self, name) for name in self._defaults if name.startswith("real")}
        # torchmetrics empties lists in place, so they are copied.
        kept = {name: list(value) if isinstance(value, list) else value for name, value in kept.items()}
        super().reset()
        for name, value in kept.items():
            setattr(self, name, value)


def check_rows(rows: Tensor, what: str) -> None:
    """Raises ValueError unless the ascending `rows` `[n]` are at least two and all different."""
    if len(rows) < 2:
        raise ValueError(f"{what}: at least 2 are needed, got {len(rows)}")
    twice = rows[1:][rows[1:] == rows[:-1]]
    if len(twice):
        raise ValueError(f"{what}: number {int(twice[0])} was given twice")
