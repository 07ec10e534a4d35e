"""What there is to know about one class of diffusers' pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.conventions import Convention

Config = Mapping[str, Any]
"""The configuration of a part of a pipeline, as its `config.json` has it."""


class Family(ABC):
    """One class of pipelines: what its denoising network is called with, and what surrounds it.

    Attributes:
        pipeline: name of the class in diffusers.
        model: class of the denoising network.
        place: folder of that network in the pipeline's folder.
        autoencoder: class of the autoencoder.
        has_deviation: whether that gives mean and deviation of the latents of a picture, or a value.
        encoders: the parts that turn prompts into conditions.
        tokens: length of the field `text` where nothing else is asked for.
        null_prompt: what classifier-free guidance asks for; None where the null condition is zeros or there is none.
        guided: whether the pipeline guides without a classifier, so that a null condition is needed.
        first: name of the layer that latents go into, and of no other input.
        last: name of the layer that the answer comes out of.
        side: pixels of the picture that one latent stands for, in each direction.
        hands_levels: whether the pipeline hands its scheduler the noise levels 1, ..., 1/steps, which only those of
            flows take.
        takes_guidance: whether the pipeline's call has a `guidance_scale` that acts.
        renormalised: whether a guided answer is given the norm of the conditional one, patch by patch.
        original: a weight by whose name the network's own single files are known; None if none are read.
    """

    pipeline: ClassVar[str]
    model: ClassVar[str]
    place: ClassVar[str] = "transformer"
    autoencoder: ClassVar[str] = "AutoencoderKL"
    has_deviation: ClassVar[bool] = True
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer")
    tokens: ClassVar[int]
    null_prompt: ClassVar[str | None] = ""
    guided: ClassVar[bool] = True
    first: ClassVar[str]
    last: ClassVar[str] = "proj_out"
    side: ClassVar[int] = 8
    hands_levels: ClassVar[bool] = False
    takes_guidance: ClassVar[bool] = True
    renormalised: ClassVar[bool] = False
    original: ClassVar[str | None] = None

    def channels(self, config: Config) -> int:
        """Channels of a latent, from the network's configuration."""
        return int(config["in_channels"])

    def default_sides(self, config: Config) -> tuple[int, int]:
        """Height and width of the latents that the pipeline makes where nothing else is asked for."""
        size = config.get("sample_size") or 128
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def patch(self, config: Config) -> int:
        """Latents of a token of the image in each direction."""
        return int(config.get("patch_size") or 1)

    def unfit(self, config: Config, sides: tuple[int, int]) -> str | None:
        """Why the network takes no latents of these sides, as the end of a sentence; None if it does."""
        patch, most = self.patch(config), config.get("pos_embed_max_size")
        if any(side % patch for side in sides):
            return f"takes latents whose sides are multiples of {patch}"
        if most and max(sides) > most * patch:
            return f"has a table of positions for {most * patch} latents a side"
        return None

    def image_tokens(self, config: Config, sides: tuple[int, int]) -> int:
        """Tokens of an image whose latents have these sides: what a shift of the times depends on."""
        patch = self.patch(config)
        return (sides[0] // patch) * (sides[1] // patch)

    def embeds_guidance(self, config: Config) -> bool:
        """Whether the network is told a guidance scale, which was distilled into it."""
        return False

    def per_step(self, config: Config) -> float:
        """What the pipeline multiplies the scheduler's time by before its network is called."""
        return 1.0

    @abstractmethod
    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        """The fields of its condition, from the network's configuration and the length of the text."""

    @abstractmethod
    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        """What the pipeline predicts.

        Args:
            model: the denoising network.
            x: latents `[B, C, H, W]`.
            time: `[B]`, in the units that the network is called with.
            condition: with the fields of `fields`.
            guidance: `[B]`, where the network embeds it.

        Returns:
            `[B, C, H, W]`.
        """

    @abstractmethod
    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        """The fields of prompts.

        Args:
            pipeline: one of this class whose text encoders are loaded; it may lack all else.
            prompts: as many as wanted.
            tokens: length of the field `text`.
        """

    def encode_null(self, pipeline: Any, tokens: int) -> dict[str, Tensor]:
        """The fields of the null condition, one row; arguments as of `encode`."""
        return self.encode(pipeline, [self.null_prompt or ""], tokens)

    def from_original(self, checkpoint: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The weights of a single file in its project's names by diffusers' names; None where diffusers converts them.
        What is used is taken out of `checkpoint`."""
        return None

    def zero_null(self, pipeline: Config) -> bool:
        """Whether the null condition is zeros, from `model_index.json`."""
        return False

    def latents(self, vae: Config) -> Convention:
        """How its latents follow from those of the autoencoder, whose configuration is given."""
        numbers = {"factor": float(vae.get("scaling_factor") or 1.0), "shift": float(vae.get("shift_factor") or 0.0)}
        return Convention("latents", numbers | {"autoencoder": "vae"})

    def encode_pictures(self, autoencoder: Any, pictures: Tensor) -> Tensor:
        """The autoencoder's own latents of pictures `[B, 3, H, W]` in [-1, 1]: mean and behind it deviation,
        `[B, 2 C, h, w]`, or values `[B, C, h, w]` where it has no deviation."""
        found = autoencoder.encode(pictures).latent_dist
        return torch.cat([found.mean, found.std], dim=1)

    def decode(self, autoencoder: Any, latents: Tensor) -> Tensor:
        """Pictures `[B, 3, H, W]` in about [-1, 1] from the autoencoder's own latents `[B, C, h, w]`."""
        pictures: Tensor = autoencoder.decode(latents, return_dict=False)[0]
        return pictures
