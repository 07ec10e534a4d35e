"""Stable Diffusion 3 and 3.5 (Esser et al. 2403.03206)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.pipelines.family import Config, Family

CLIP_TOKENS = 77


class StableDiffusion3(Family):
    """Two CLIP encoders, whose tokens come first, and T5; the pooled CLIP embeddings join the time."""

    pipeline = "StableDiffusion3Pipeline"
    model = "SD3Transformer2DModel"
    first = "pos_embed.proj"
    original = "joint_blocks.0.x_block.attn.qkv.weight"
    encoders = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
    tokens = CLIP_TOKENS + 256

    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        return (
            Field("text", (tokens, config["joint_attention_dim"])),
            Field("pooled", (config["pooled_projection_dim"],)),
        )

    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        return model(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=condition["text"],
            pooled_projections=condition["pooled"],
            return_dict=False,
        )[0]

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, _, pooled, _ = pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=tokens - CLIP_TOKENS,
        )
        return {"text": text, "pooled": pooled}
