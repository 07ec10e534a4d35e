"""The autoencoder of a pipeline as a decoder."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from realuid.models.decoders import Decoder
from realuid.pretrained.pipelines.autoencoder import config_of, load_autoencoder
from realuid.pretrained.pipelines.table import family_of
from realuid.pretrained.scaling import units

__all__ = ["PipelineDecoder"]

WHO = "Teacher.decoder"


class PipelineDecoder(Decoder):
    """The decoder of a diffusers pipeline, with its own mean and deviation of latents; needs the package diffusers.

    Args:
        folder: path or URL of the pipeline's folder, as of `Teacher.checkpoint`.
        pipeline: its class, such as `StableDiffusion3Pipeline`.
        batch: latents a pass.

    Raises:
        ValueError: if there is no such pipeline, or `batch` is not positive.
    """

    def __init__(self, *, folder: str, pipeline: str, batch: int = 4) -> None:
        if batch < 1:
            raise ValueError(f"batch must be positive, got {batch}")
        self.family, self.folder, self.batch = family_of(pipeline), folder, batch

    def __call__(self, latents: Tensor) -> Tensor:
        model, mean, deviation = self._loaded
        model.to(latents.device)
        mean, deviation = (numbers.to(latents.device)[:, None, None] for numbers in (mean, deviation))
        with torch.no_grad():
            return torch.cat(
                [self.family.decode(model, part.float() * deviation + mean) for part in latents.split(self.batch)]
            )

    @cached_property
    def _loaded(self) -> tuple[Any, Tensor, Tensor]:
        """The autoencoder, and mean and deviation of its latents `[C]` or `[1]`."""
        model = load_autoencoder(self.folder, self.family, WHO)
        mean, deviation = units(self.family.latents(config_of(self.folder, self.family, WHO)))
        return model, torch.tensor(mean), torch.tensor(deviation)
