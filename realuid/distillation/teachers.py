"""Teachers: frozen models, trained before, read from a checkpoint, or exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from realuid.checkpoints import checksum
from realuid.conditions.text import TextEncoder
from realuid.models.decoders import Decoder
from realuid.models.matching import PosteriorMean, matching_model_of
from realuid.networks.storage import packed
from realuid.pretrained import components
from realuid.pretrained.conventions import Foreign
from realuid.pretrained.loading import load_weights
from realuid.samplers import Sampler
from realuid.utils.errors import CheckpointError

__all__ = ["Teacher"]


class Teacher:
    """The model to distil.

    Args:
        model: a matching model whose weights come from a checkpoint, or a closed form that needs none.
        sampler: how the teacher is sampled in many steps.
        checkpoint: path or URL of its weights: a checkpoint of this project, or another project's (docs/foreign.md),
            whose conventions must be those that are bound. A .safetensors file with the network of a pipeline, in the
            names of its own project, takes the other parts from `known['folder']`. None if the same gin file trains the
            teacher: what is bound in the scope `teacher/` for the Trainer is a run of its own, made first where its
            result is missing.
        ema: which average of the checkpoint to take; None for its first.
        format: whose file the checkpoint is, one of `realuid.pretrained.FORMATS`, where its content does not tell.
        known: what such a file does not tell, for instance {'attention_order': 'new'}, see its reader; or {'folder':
            %TEACHER}, the folder of the pipeline whose network it holds.
        sha256: of the checkpoint; a file of another content is refused.
        decoder: turns samples into pictures, for a model of latents.
        encoder: turns prompts into its conditions, for sampling it without a data set.
        storage: type in which the frozen weights of layers are kept. In bfloat16, they are rounded once and computed
            with in the precision of the step (`Compute`); those that start from them, start from the exact ones.
        idle_device: where the weights are while the fake network is trained, if its loss never asks the teacher
            (RealUID): None for on the device, `cpu` for the host's memory. It costs a copy to the device in every step,
            and is for a teacher that shares its weights with no adapter.

    Raises:
        ValueError: if the sampler does not suit the model's path.
        UndeterminedError: if the model does not determine what the sampler needs.
    """

    free_on_resume = frozenset({"idle_device"})

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
        encoder: TextEncoder | None = None,
        storage: Literal["float32", "bfloat16"] = "float32",
        idle_device: Literal["cpu"] | None = None,
    ) -> None:
        sampler.times(model)
        self.model, self.sampler = model, sampler
        self.decoder, self.encoder = decoder, encoder
        self.checkpoint, self.ema = checkpoint, ema
        self.format, self.known, self.sha256, self.storage = format, known, sha256, storage
        self.idle_device = idle_device
        self.foreign: Foreign | None = None
        """What was read, if the checkpoint is another project's; without the weights."""
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
            if self.foreign is not None and model.interpolant is self.model.interpolant:
                times = self.sampler.times(self.model)
                components.tell_of_other_steps(self.foreign, times, model.interpolant, self.checkpoint)
        self.model.eval().requires_grad_(False)
        self.checksum = checksum(self.model)

    def pack(self) -> None:
        """Rounds the weights, if they are kept in bfloat16; `checksum` stays that of the exact ones."""
        if self.storage == "bfloat16":
            packed(self.model.requires_grad_(False))
