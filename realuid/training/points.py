"""Samples on the path: what the networks of a distillation are asked about."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from realuid.interpolants import Coefficients
from realuid.losses import Terms
from realuid.matching import PosteriorMean
from realuid.targets import Target
from realuid.training.procedure import PathDraws
from realuid.weights import Weight


@dataclass(frozen=True)
class Points:
    """Generated samples seen on the path and, after them, real ones if there are any: one batch for each network."""

    x_t: Tensor
    k: Coefficients
    """Of the path at their times."""
    labels: Tensor
    x0: Tensor
    target: Tensor
    """The sampled target c."""
    weight: Tensor
    sizes: list[int]
    """How many samples are generated and, if any, real."""

    def predicted(self, model: PosteriorMean, target: Target) -> Tensor:
        """The prediction of a model on this path at every point, in one forward pass."""
        return model.predict_at(self.k, self.x_t, self.labels, target, self.x0)

    def terms(self, fake: Tensor, teacher: Tensor | None = None) -> list[Terms]:
        """What a loss sees of the generated and, if any, of the real samples."""
        teachers = [None] * len(self.sizes) if teacher is None else teacher.split(self.sizes)
        parts = (part.split(self.sizes) for part in (fake, self.target, self.weight))
        return [
            Terms(fake=f, target=c, weight=w, teacher=f_star) for f, c, w, f_star in zip(*parts, teachers, strict=True)
        ]


def place(
    model: PosteriorMean,
    target: Target,
    weight: Weight,
    x1: Tensor,
    labels: Tensor,
    draws: PathDraws,
    sizes: list[int],
) -> Points:
    """Pairs x1 `[B, C, H, W]` with the drawn sources by the model's coupling and puts them on its path."""
    x0 = model.coupling.pair(draws.x0, x1, labels)
    k = model.interpolant.at(draws.t)
    return Points(
        x_t=model.interpolant.draw(k, x0, x1, draws.z),
        k=k,
        labels=labels,
        x0=x0,
        target=target.sample(k, x0, x1, draws.z),
        weight=weight(k),
        sizes=sizes,
    )
