"""PixArt-Sigma (Chen et al. 2403.04692)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.pretrained.pipelines.family import Config, Family
from realuid.pretrained.pipelines.pixart_names import from_original


class PixArtSigma(Family):
    """T5's embeddings with their mask. The variance that the network predicts beside the noise is left out."""

    pipeline = "PixArtSigmaPipeline"
    model = "PixArtTransformer2DModel"
    first = "pos_embed.proj"
    original = "blocks.0.cross_attn.kv_linear.weight"
    tokens = 300

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
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return answer[:, : x.shape[1]]

    def from_original(self, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
        return from_original(checkpoint)

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, mask, _, _ = pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=tokens
        )
        return {"text": text, "mask": mask.bool()}
