"""Teachers: frozen models, trained before, read from a checkpoint, or exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realuid.checkpoints import checksum
from realuid.decoders import Decoder
from realuid.errors import CheckpointError
from realuid.foreign.conventions import Foreign
from realuid.foreign.loading import load_weights
from realuid.matching import PosteriorMean, matching_model_of
from realuid.samplers import Sampler

__all__ = ["Teacher"]


class Teacher:
    """The model to distil.

    Args:
        model: a matching model whose weights come from a checkpoint, or a closed form that needs none.
        sampler: how the teacher is sampled in many steps.
        checkpoint: path or URL of its weights: a checkpoint of this project, or another project's (docs/foreign.md),
            whose conventions must be those that are bound. None if the same gin file trains the teacher: what is bound
            in the scope `teacher/` for the Trainer is a run of its own, made first where its result is missing.
        ema: which average of the checkpoint to take; None for its first.
        format: whose file the checkpoint is, one of `realuid.foreign.FORMATS`, where its content does not tell.
        known: what such a file does not tell, for instance {'attention_order': 'new'}; see its reader.
        sha256: of the checkpoint; a file of another content is refused.
        decoder: turns samples into pictures, for a model of latents.

    Raises:
        ValueError: if the sampler does not suit the model's path.
        UndeterminedError: if the model does not determine what the sampler needs.
    """

    def __init__(
        self,
        *,
        model: PosteriorMean,
        sampler: Sampler,
        checkpoint: str | None = None,
        ema: str | None = None,
        format: str | None = None,
        known: Mapping[str, Any] | None = None,
        sha256: str | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        sampler.times(model)
        self.model, self.sampler, self.decoder = model, sampler, decoder
        self.checkpoint, self.ema = checkpoint, ema
        self.format, self.known, self.sha256 = format, known, sha256
        self.foreign: Foreign | None = None
        """What was read, if the checkpoint is another project's; without the weights."""
        self.summary: dict[str, Any] | None = None  # of the teacher's own run: its figures need not be measured twice
        self.checksum: str | None = None
        """Of the model's weights, once they are loaded."""

    @property
    def needs_weights(self) -> bool:
        return matching_model_of(self.model) is not None

    def load(self) -> None:
        """Reads the weights (by now `checkpoint` is set: the teacher has been trained) and freezes the model.

        Raises:
            CheckpointError: if they are missing or do not fit the model.
        """
        model = matching_model_of(self.model)
        if model is not None:
            if self.checkpoint is None:
                raise CheckpointError("the teacher has not been trained yet, and Teacher.checkpoint is not bound")
            self.ema, self.foreign = load_weights(
                self.model,
                self.checkpoint,
                ema=self.ema,
                format=self.format,
                known=self.known,
                sha256=self.sha256,
            )
        self.model.eval().requires_grad_(False)
        self.checksum = checksum(self.model)
