"""Teachers: frozen models, trained by a recipe, read from a checkpoint, or exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realuid.checkpoints import load_network
from realuid.errors import CheckpointError
from realuid.matching import MatchingModel, PosteriorMean
from realuid.samplers import Sampler

__all__ = ["Teacher"]


class Teacher:
    """The model to distil.

    Args:
        model: a matching model whose weights come from `checkpoint` or `recipe`, or a closed form that needs neither.
        sampler: how the teacher is sampled in many steps.
        checkpoint: path or URL of its weights; wins over the recipe.
        ema: which average of the checkpoint to take; None for its first.
        recipe: gin file that trains the teacher, run first where its result is missing.
        overrides: bindings that the recipe is run with, name to value (`{"DATA": %DATA}`).

    Raises:
        ValueError: if the model needs weights and there is neither checkpoint nor recipe.
    """

    def __init__(
        self,
        *,
        model: PosteriorMean,
        sampler: Sampler,
        checkpoint: str | None = None,
        ema: str | None = None,
        recipe: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.sampler = model, sampler
        self.checkpoint, self.ema = checkpoint, ema
        self.recipe, self.overrides = recipe, dict(overrides or {})
        self.summary: dict[str, Any] | None = None  # of the recipe's run: its figures need not be measured twice
        if self.needs_weights and checkpoint is None and recipe is None:
            raise ValueError("bind Teacher.checkpoint (a file of weights) or Teacher.recipe (a gin file that makes it)")

    @property
    def needs_weights(self) -> bool:
        return isinstance(self.model, MatchingModel)

    def load(self) -> None:
        """Reads the weights (by now `checkpoint` is set: the recipe has been run) and freezes the model.

        Raises:
            CheckpointError: if they are missing or do not fit the model.
        """
        if isinstance(self.model, MatchingModel):
            if self.checkpoint is None:
                raise CheckpointError(f"the teacher of recipe {self.recipe} has not been trained yet")
            self.ema = load_network(self.model.network, self.checkpoint, self.ema)
        self.model.eval().requires_grad_(False)
