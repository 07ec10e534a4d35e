"""Stable Diffusion 1 and 2 (Rombach et al. 2112.10752) and XL (Podell et al. 2307.01952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.conventions import Convention
from realuid.pretrained.pipelines.family import Config, Family

CLIP_TOKENS = 77


class StableDiffusion(Family):
    """CLIP's tokens, into a U-Net."""

    pipeline = "StableDiffusionPipeline"
    model = "UNet2DConditionModel"
    place = "unet"
    first = "conv_in"
    last = "conv_out"
    original = "input_blocks.0.0.weight"
    tokens = CLIP_TOKENS

    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        return (Field("text", (tokens, _width(config))),)

    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        answer: Tensor = model(x, time, encoder_hidden_states=condition["text"], return_dict=False)[0]
        return answer

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, _ = pipeline.encode_prompt(
            list(prompts),
            device=pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return {"text": text}


class StableDiffusionXL(Family):
    """The tokens of two CLIP encoders side by side, the pooled embedding of the second, and sizes: a U-Net's.

    The network is told that the picture is whole and of the size of the latents, as by the pipeline.
    """

    pipeline = "StableDiffusionXLPipeline"
    model = "UNet2DConditionModel"
    place = "unet"
    first = "conv_in"
    last = "conv_out"
    original = "input_blocks.0.0.weight"
    encoders = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    tokens = CLIP_TOKENS

    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        numbers = 6 * int(config["addition_time_embed_dim"])
        pooled = int(config["projection_class_embeddings_input_dim"]) - numbers
        return Field("text", (tokens, _width(config))), Field("pooled", (pooled,))

    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        height, width = self.side * x.shape[2], self.side * x.shape[3]
        sizes = torch.tensor([height, width, 0, 0, height, width], device=x.device, dtype=x.dtype)
        answer: Tensor = model(
            x,
            time,
            encoder_hidden_states=condition["text"],
            added_cond_kwargs={"text_embeds": condition["pooled"], "time_ids": sizes.expand(len(x), -1)},
            return_dict=False,
        )[0]
        return answer

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, _, pooled, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    def zero_null(self, pipeline: Config) -> bool:
        return bool(pipeline.get("force_zeros_for_empty_prompt", True))

    def latents(self, vae: Config) -> Convention:
        mean, deviation = vae.get("latents_mean"), vae.get("latents_std")
        if mean is None or deviation is None:
            return super().latents(vae)
        factor = float(vae.get("scaling_factor") or 1.0)
        return Convention(
            "latents",
            {"factor": [factor / number for number in deviation], "shift": list(mean), "autoencoder": "vae"},
        )


def _width(config: Config) -> int:
    """Of a token; some configurations give it for every resolution."""
    width = config.get("cross_attention_dim", 1280)
    return int(width[0] if isinstance(width, (list, tuple)) else width)
