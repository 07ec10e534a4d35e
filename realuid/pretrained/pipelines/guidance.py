r"""Classifier-free guidance whose answer keeps the norm of the conditional one, as in Qwen-Image:

.. math:: g = f_{null} + w\, (f_{condition} - f_{null}), \qquad f = g\, \| f_{condition} \| / \| g \|

with the norms taken over the latents of a patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.guidance import GuidedModel
from realuid.models.matching import MatchingModel
from realuid.paths.interpolants import Coefficients
from realuid.paths.targets import Target

__all__ = ["RenormalisedGuidedModel"]


class RenormalisedGuidedModel(GuidedModel):
    """A conditional model with guidance of its native target, each patch rescaled to the conditional answer's norm.

    Args:
        model: a matching model with a null condition.
        scale: w, guidance scale; 1 is the model itself.
        low: guidance acts at noise levels from here
        high: to here; all of them by default.
        patch: latents of a patch in each direction.

    Raises:
        ValueError: if the model has no null condition or is no matching model, or not 0 <= low < high <= 1.
    """

    model: MatchingModel

    def __init__(
        self, *, model: MatchingModel, scale: float, low: float = 0.0, high: float = 1.0, patch: int = 2
    ) -> None:
        if not isinstance(model, MatchingModel):
            raise ValueError("RenormalisedGuidedModel guides a matching model: its network's answers have the norms")
        super().__init__(model=model, scale=scale, low=low, high=high)
        self.patch = patch

    def predict_at(
        self, k: Coefficients, x_t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        both = self.model.predict_at(
            k.twice(),
            torch.cat([x_t, x_t]),
            Condition.cat([condition, self.model.null(condition)]),
            self.model.target,
            None if x0 is None else torch.cat([x0, x0]),
        )
        conditional, null = both.chunk(2)
        guided = null + self.scale * (conditional - null)
        guided = guided * (self._norms(conditional) / self._norms(guided))
        level = self.interpolant.noise_level(k.t)
        acts = ((level >= self.low) & (level <= self.high)).view(-1, *(1,) * (x_t.ndim - 1))
        return self.model.converted(k, x_t, torch.where(acts, guided, conditional), target, x0)

    def _norms(self, x: Tensor) -> Tensor:
        """Of every patch, at each of its latents `[B, 1, H, W]`."""
        mean = F.avg_pool2d(x.square().sum(1, keepdim=True), self.patch)
        return mean.sqrt().repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
