"""Qwen-Image (2508.02324)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.conventions import Convention
from realuid.pretrained.pipelines.family import Config
from realuid.pretrained.pipelines.packing import PATCH, PatchFamily, packed, unpacked


class QwenImage(PatchFamily):
    """The hidden states of a language model with their mask, into a transformer on patches; a video autoencoder.

    Guided answers are given the norm of the conditional ones, patch by patch (`RenormalisedGuidedModel`).
    """

    pipeline = "QwenImagePipeline"
    model = "QwenImageTransformer2DModel"
    first = "img_in"
    original = "transformer_blocks.0.img_mod.1.weight"
    takes_guidance = False
    autoencoder = "AutoencoderKLQwenImage"
    tokens = 512
    null_prompt = " "
    renormalised = True

    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        return Field("text", (tokens, config["joint_attention_dim"])), Field("mask", (tokens,), "bool")

    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        answer = model(
            hidden_states=packed(x),
            timestep=time,
            guidance=guidance,
            encoder_hidden_states=condition["text"],
            encoder_hidden_states_mask=condition["mask"],
            img_shapes=[[(1, x.shape[2] // PATCH, x.shape[3] // PATCH)]] * len(x),
            return_dict=False,
        )[0]
        return unpacked(answer, x)

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, mask = pipeline.encode_prompt(list(prompts), max_sequence_length=tokens)
        if mask is None:  # all prompts are equally long
            mask = text.new_ones(text.shape[:2])
        missing = tokens - text.shape[1]
        return {"text": F.pad(text, (0, 0, 0, missing)), "mask": F.pad(mask, (0, missing)).bool()}

    def latents(self, vae: Config) -> Convention:
        numbers = {"factor": [1 / number for number in vae["latents_std"]], "shift": list(vae["latents_mean"])}
        return Convention("latents", numbers | {"autoencoder": "vae"})

    def encode_pictures(self, autoencoder: Any, pictures: Tensor) -> Tensor:
        return super().encode_pictures(autoencoder, pictures[:, :, None])[:, :, 0]

    def decode(self, autoencoder: Any, latents: Tensor) -> Tensor:
        pictures: Tensor = autoencoder.decode(latents[:, :, None], return_dict=False)[0][:, :, 0]
        return pictures
