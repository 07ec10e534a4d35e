"""From the names that PixArt's own project gives its weights to those of diffusers, which has only a script for it."""

from __future__ import annotations

import re

from torch import Tensor

__all__ = ["from_original"]

OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "adaln_single.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "adaln_single.emb.timestep_embedder.linear_2",
    "t_block.1": "adaln_single.linear",
    "y_embedder.y_proj.fc1": "caption_projection.linear_1",
    "y_embedder.y_proj.fc2": "caption_projection.linear_2",
    "final_layer.linear": "proj_out",
    "csize_embedder.mlp.0": "adaln_single.emb.resolution_embedder.linear_1",
    "csize_embedder.mlp.2": "adaln_single.emb.resolution_embedder.linear_2",
    "ar_embedder.mlp.0": "adaln_single.emb.aspect_ratio_embedder.linear_1",
    "ar_embedder.mlp.2": "adaln_single.emb.aspect_ratio_embedder.linear_2",
}
"""Layers beside the blocks."""
IN_BLOCK = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "cross_attn.q_linear": ("attn2.to_q",),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
    "cross_attn.proj": ("attn2.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
}
"""Layers of a block; those of several names are these, one above the other."""
TABLES = {"final_layer.scale_shift_table": "scale_shift_table"}
UNUSED = ("pos_embed", "y_embedder.y_embedding")
"""A table that diffusers computes, and the null caption of the training, in place of which pipelines encode one."""
PLACE = re.compile(r"blocks\.(\d+)\.(.+)")


def from_original(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by diffusers' names; what has one, or no use, is taken out of `checkpoint`."""
    made: dict[str, Tensor] = {}
    for name in list(checkpoint):
        if news := _names(name):
            parts = checkpoint.pop(name).chunk(len(news))
            made |= dict(zip(news, parts, strict=True))
        elif name in UNUSED:
            del checkpoint[name]
    return made


def _names(name: str) -> tuple[str, ...]:
    """The names of the parts of a weight; none if it is not known."""
    if name in TABLES:
        return (TABLES[name],)
    place, _, kind = name.rpartition(".")
    if place in OUTSIDE:
        return (f"{OUTSIDE[place]}.{kind}",)
    if not (inside := PLACE.fullmatch(name)):
        return ()
    start, rest = f"transformer_blocks.{inside[1]}", inside[2]
    if rest == "scale_shift_table":
        return (f"{start}.{rest}",)
    layer = rest.rpartition(".")[0]
    return tuple(f"{start}.{new}.{kind}" for new in IN_BLOCK.get(layer, ()))
