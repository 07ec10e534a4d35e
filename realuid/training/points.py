"""Samples on the path: what the networks of a distillation are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.losses import Terms
from realuid.matching import PosteriorMean
from realuid.targets import Target
from realuid.training.procedure import PathDraws
from realuid.weights import Weight


@dataclass(frozen=True)
class Points:
    """A batch of generated or real samples seen on the path."""

    x_t: Tensor
    t: Tensor
    labels: Tensor
    x0: Tensor
    target: Tensor
    """The sampled target c."""
    weight: Tensor

    def terms(self, fake: Tensor, teacher: Tensor | None = None) -> Terms:
        return Terms(fake=fake, target=self.target, weight=self.weight, teacher=teacher)


def place(model: PosteriorMean, target: Target, weight: Weight, x1: Tensor, labels: Tensor, draws: PathDraws) -> Points:
    """Pairs x1 `[B, C, H, W]` with the drawn sources by the model's coupling and puts them on its path."""
    x0 = model.coupling.pair(draws.x0, x1, labels)
    k = model.interpolant.at(draws.t)
    return Points(
        x_t=model.interpolant.draw(k, x0, x1, draws.z),
        t=draws.t,
        labels=labels,
        x0=x0,
        target=target.sample(k, x0, x1, draws.z),
        weight=weight(k),
    )


def predict(model: PosteriorMean, points: Sequence[Points], target: Target) -> list[Tensor]:
    """The model's prediction for every batch of points, in one forward pass."""
    prediction = model.predict(
        torch.cat([p.x_t for p in points]),
        torch.cat([p.t for p in points]),
        torch.cat([p.labels for p in points]),
        target,
        torch.cat([p.x0 for p in points]),
    )
    return list(prediction.split([len(p.t) for p in points]))
