"""Sana (Xie et al. 2410.10629)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.pipelines.family import Config, Family


class Sana(Family):
    """Gemma's embeddings with their mask, of prompts behind the pipeline's long instruction; a DC autoencoder."""

    pipeline = "SanaPipeline"
    model = "SanaTransformer2DModel"
    first = "patch_embed.proj"
    original = "blocks.0.mlp.inverted_conv.conv.weight"
    side = 32
    autoencoder = "AutoencoderDC"
    has_deviation = False
    tokens = 300

    def default_sides(self, config: Config) -> tuple[int, int]:
        return super().default_sides({"sample_size": config.get("sample_size") or 32})

    def per_step(self, config: Config) -> float:
        return float(config.get("timestep_scale") or 1.0)

    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        return Field("text", (tokens, config["caption_channels"])), Field("mask", (tokens,), "bool")

    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        answer: Tensor = model(
            x,
            encoder_hidden_states=condition["text"],
            encoder_attention_mask=condition["mask"],
            timestep=time,
            return_dict=False,
        )[0]
        return answer[:, : x.shape[1]]

    def encode_pictures(self, autoencoder: Any, pictures: Tensor) -> Tensor:
        latents: Tensor = autoencoder.encode(pictures).latent
        return latents

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
        return _encoded(pipeline, prompts, tokens, instruction)

    def encode_null(self, pipeline: Any, tokens: int) -> dict[str, Tensor]:
        return _encoded(pipeline, [""], tokens, None)


def _encoded(pipeline: Any, prompts: Sequence[str], tokens: int, instruction: list[str] | None) -> dict[str, Tensor]:
    text, mask, _, _ = pipeline.encode_prompt(
        list(prompts),
        do_classifier_free_guidance=False,
        max_sequence_length=tokens,
        complex_human_instruction=instruction,
    )
    return {"text": text, "mask": mask.bool()}
