r"""Classifier-free guidance (Ho & Salimans 2207.12598): a model that answers

.. math:: f_{null} + w\, (f_{condition} - f_{null}).
"""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.matching import DerivedModel, PosteriorMean, matching_model_of
from realuid.paths.interpolants import Coefficients, combine
from realuid.paths.targets import Target

__all__ = ["GuidedModel"]


class GuidedModel(DerivedModel):
    """A conditional model with classifier-free guidance; both branches go through the network in one pass.

    Args:
        model: a model with a null condition; a network learns it by `TeacherTraining.condition_dropout`.
        scale: w, guidance scale; 1 is the model itself.
        low: guidance acts at noise levels from here
        high: to here (Kynkäänniemi et al. 2404.07724); all of them by default.

    Raises:
        ValueError: if the model has no null condition, or not 0 <= low < high <= 1.
    """

    def __init__(self, *, model: PosteriorMean, scale: float, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(model)
        if not 0 <= low < high <= 1:
            raise ValueError(f"0 <= low < high <= 1 is needed, got low = {low}, high = {high}")
        if not model.has_null:
            inner = matching_model_of(model)
            name = type(model if inner is None else inner.network).__name__
            remedy = "use another model" if inner is None else inner.network.null_remedy
            raise ValueError(
                f"guidance needs a null condition, which this {name} lacks: {remedy}, and "
                "TeacherTraining.condition_dropout for its training"
            )
        self.scale, self.low, self.high = scale, low, high
        self.interpolant, self.coupling = model.interpolant, model.coupling
        self.source_conditioned = model.source_conditioned

    def predict_at(
        self, k: Coefficients, x_t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        both = self.model.predict_at(
            k.twice(),
            torch.cat([x_t, x_t]),
            Condition.cat([condition, self.model.null(condition)]),
            target,
            None if x0 is None else torch.cat([x0, x0]),
        )
        conditional, null = both.chunk(2)
        level = self.interpolant.noise_level(k.t)
        scale = torch.where((level >= self.low) & (level <= self.high), self.scale, 1.0)
        return null + combine([scale], [conditional - null])

    def check(self, target: Target, times: Tensor) -> None:
        self.model.check(target, times)
