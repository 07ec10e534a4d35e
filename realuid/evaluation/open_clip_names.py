"""open_clip's names of CLIP's weights, and the form of transformers' `CLIPModel` that follows from the tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from realuid.utils.errors import CheckpointError

LEFT = ("attn_mask", "input_resolution", "context_length", "vocab_size")
"""What files have beside the weights: a mask, and numbers that the shapes of the weights tell."""
NAMES = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    **{
        f"{old}.{kind}": f"{new}.{kind}"
        for old, new in {
            "visual.ln_pre": "vision_model.pre_layrnorm",
            "visual.ln_post": "vision_model.post_layernorm",
            "ln_final": "text_model.final_layer_norm",
        }.items()
        for kind in ("weight", "bias")
    },
}
TRANSPOSED = ("visual.proj", "text_projection")
BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.([a-z_0-9.]+)\.(weight|bias)")
LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
JOINED = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
"""Queries, keys and values of a block."""
HEAD, WIDE, WIDE_HEADS = 64, 1280, 16
"""Width of a head; vision transformers of this width and wider (H, g, bigG, e) have 16 heads."""


def weights_of(content: Mapping[str, Any], origin: str) -> dict[str, Tensor]:
    """The weights in what a file holds: the state dict itself, or one that a training of open_clip kept.

    Raises:
        CheckpointError: if there are none.
    """
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise CheckpointError(
            f"{origin} holds no weights of open_clip: a state dict, or `state_dict` with one, is read"
        )
    return {name.removeprefix("module."): value for name, value in state.items()}


def to_transformers(state: Mapping[str, Tensor], origin: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of transformers' `CLIPConfig`, and the weights of its `CLIPModel` in float32.

    Args:
        state: weights by open_clip's names.
        origin: of the file, for messages.

    Raises:
        CheckpointError: if they are not those of a CLIP of two transformers.
    """
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in LEFT:
            continue
        value = value.float()
        if name in NAMES:
            weights[NAMES[name]] = value.T.contiguous() if name in TRANSPOSED and value.ndim == 2 else value
        elif joined := JOINED.fullmatch(name):
            place = f"{_tower(joined[1])}.encoder.layers.{joined[2]}.self_attn"
            weights |= {
                f"{place}.{part}_proj.{joined[3]}": rows for part, rows in zip("qkv", value.chunk(3), strict=False)
            }
        elif (block := BLOCK.fullmatch(name)) and block[3] in LAYERS:
            weights[f"{_tower(block[1])}.encoder.layers.{block[2]}.{LAYERS[block[3]]}.{block[4]}"] = value
        else:
            raise CheckpointError(f"{origin} has {name}, which a CLIP of two transformers has not: it is not read")
    if lacking := next((old for old, new in NAMES.items() if new not in weights), None):
        raise CheckpointError(f"{origin} lacks {lacking}: it is no CLIP of two transformers in open_clip's names")
    weights["logit_scale"] = weights["logit_scale"].reshape(())
    try:
        return _config(weights), weights
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{origin} is no CLIP of two transformers in open_clip's names: {error}") from None


def _tower(visual: str | None) -> str:
    return "vision_model" if visual else "text_model"


def _config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    conv = weights["vision_model.embeddings.patch_embedding.weight"]
    cells = len(weights["vision_model.embeddings.position_embedding.weight"]) - 1
    side, width, patch = math.isqrt(cells), conv.shape[0], conv.shape[-1]
    if side**2 != cells or conv.ndim != 4:
        raise ValueError(f"its pictures have {cells} patches, which are no square")
    words, text_width = weights["text_model.embeddings.token_embedding.weight"].shape
    return {
        "projection_dim": weights["visual_projection.weight"].shape[0],
        "vision_config": {
            "hidden_size": width,
            "intermediate_size": len(weights["vision_model.encoder.layers.0.mlp.fc1.weight"]),
            "num_hidden_layers": _depth(weights, "vision_model"),
            "num_attention_heads": WIDE_HEADS if width >= WIDE else _heads(width),
            "image_size": side * patch,
            "patch_size": patch,
        },
        "text_config": {
            "hidden_size": text_width,
            "intermediate_size": len(weights["text_model.encoder.layers.0.mlp.fc1.weight"]),
            "num_hidden_layers": _depth(weights, "text_model"),
            "num_attention_heads": _heads(text_width),
            "vocab_size": words,
            "max_position_embeddings": len(weights["text_model.embeddings.position_embedding.weight"]),
        },
    }


def _depth(weights: Mapping[str, Tensor], tower: str) -> int:
    start = f"{tower}.encoder.layers."
    return len({name.removeprefix(start).partition(".")[0] for name in weights if name.startswith(start)})


def _heads(width: int) -> int:
    if width % HEAD:
        raise ValueError(f"a width of {width} is no multiple of {HEAD}, the width of a head")
    return width // HEAD
