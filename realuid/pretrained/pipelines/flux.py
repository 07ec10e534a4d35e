"""FLUX.1 of Black Forest Labs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.pipelines.family import Config
from realuid.pretrained.pipelines.packing import PATCH, PatchFamily, packed, unpacked


class Flux(PatchFamily):
    """The text of T5, CLIP's pooled embedding beside the time, and in FLUX.1-dev a guidance scale. Patches have ids."""

    pipeline = "FluxPipeline"
    model = "FluxTransformer2DModel"
    first = "x_embedder"
    original = "double_blocks.0.img_attn.qkv.weight"
    encoders = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    tokens = 512
    null_prompt = None
    guided = False

    def fields(self, config: Config, tokens: int) -> tuple[Field, ...]:
        return (
            Field("text", (tokens, config["joint_attention_dim"])),
            Field("pooled", (config["pooled_projection_dim"],)),
        )

    def answer(
        self, model: nn.Module, x: Tensor, time: Tensor, condition: Condition, guidance: Tensor | None
    ) -> Tensor:
        rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
        ids = torch.zeros(rows, columns, 3, device=x.device, dtype=x.dtype)
        ids[..., 1] = torch.arange(rows, device=x.device)[:, None]
        ids[..., 2] = torch.arange(columns, device=x.device)
        answer = model(
            hidden_states=packed(x),
            timestep=time,
            guidance=guidance,
            pooled_projections=condition["pooled"],
            encoder_hidden_states=condition["text"],
            txt_ids=torch.zeros(condition["text"].shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=ids.flatten(0, 1),
            return_dict=False,
        )[0]
        return unpacked(answer, x)

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, pooled, _ = pipeline.encode_prompt(prompt=list(prompts), prompt_2=None, max_sequence_length=tokens)
        return {"text": text, "pooled": pooled}
