"""Which weight of a diffusers model is which of ours; read both ways, by the reader and by the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
QKV = ("to_q", "to_k", "to_v")
DEPRECATED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in old `UNet2DModel` files."""


def unet(depths: int, blocks: int, attention: Sequence[int]) -> tuple[dict[str, str], dict[str, str]]:
    """Layers of `UNet2DModel` and of our `UNet`: those of one weight and bias each, and the attention blocks."""
    plain = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "class_embedding": "label_emb",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    attentions = {"mid_block.attentions.0": "middle_block.1"}

    def resnet(theirs: str, ours: str) -> None:
        plain.update({f"{theirs}.{name}": f"{ours}.{own}" for name, own in RESNET.items()})

    resnet("mid_block.resnets.0", "middle_block.0")
    resnet("mid_block.resnets.1", "middle_block.2")
    for depth in range(depths):
        first = depth * (blocks + 1)
        for index in range(blocks):
            resnet(f"down_blocks.{depth}.resnets.{index}", f"input_blocks.{first + 1 + index}.0")
            if depth in attention:
                attentions[f"down_blocks.{depth}.attentions.{index}"] = f"input_blocks.{first + 1 + index}.1"
        plain[f"down_blocks.{depth}.downsamplers.0.conv"] = f"input_blocks.{first + blocks + 1}.0.op"
        up = depths - 1 - depth
        first = up * (blocks + 1)
        for index in range(blocks + 1):
            resnet(f"up_blocks.{up}.resnets.{index}", f"output_blocks.{first + index}.0")
            if depth in attention:
                attentions[f"up_blocks.{up}.attentions.{index}"] = f"output_blocks.{first + index}.1"
        plain[f"up_blocks.{up}.upsamplers.0.conv"] = f"output_blocks.{first + blocks}.{1 + (depth in attention)}.conv"
    return plain, attentions


def dit(depth: int) -> tuple[dict[str, str], dict[str, str]]:
    """Layers of `DiTTransformer2DModel` and of our `DiT`, and the attentions.

    diffusers keeps a copy of the time and label embeddings in every block; they are one in ours.
    """
    embeddings = "transformer_blocks.0.norm1.emb"
    plain = {
        "pos_embed.proj": "x_embedder.proj",
        f"{embeddings}.timestep_embedder.linear_1": "t_embedder.mlp.0",
        f"{embeddings}.timestep_embedder.linear_2": "t_embedder.mlp.2",
        f"{embeddings}.class_embedder.embedding_table": "y_embedder.embedding_table",
        "proj_out_1": "final_layer.adaLN_modulation.1",
        "proj_out_2": "final_layer.linear",
    }
    attentions = {}
    for index in range(depth):
        theirs, ours = f"transformer_blocks.{index}", f"blocks.{index}"
        plain[f"{theirs}.norm1.linear"] = f"{ours}.adaLN_modulation.1"
        plain[f"{theirs}.ff.net.0.proj"] = f"{ours}.mlp.fc1"
        plain[f"{theirs}.ff.net.2"] = f"{ours}.mlp.fc2"
        attentions[f"{theirs}.attn1"] = f"{ours}.attn"
    return plain, attentions


def to_ours(
    state: Mapping[str, Tensor],
    plain: Mapping[str, str],
    attentions: Mapping[str, str],
    heads: Mapping[int, int] | None,
) -> dict[str, Tensor]:
    """Renames diffusers' weights; queries, keys and values become one layer.

    Args:
        state: diffusers' weights.
        plain: layers, theirs to ours.
        attentions: attention blocks, theirs to ours.
        heads: number of heads by channels, for our `UNet`, whose channels lie head by head and whose layers are
            convolutions; None for `DiT`, where queries, keys and values follow one another.

    Raises:
        KeyError: with the name of a weight that is missing.
        ValueError: if a weight is left over.
    """
    layers = [*plain, *(f"{name}.{layer}" for name in attentions for layer in (*QKV, "to_out.0", "group_norm"))]
    if extra := state.keys() - {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}:
        raise ValueError(f"it has the weight {min(extra)}, which our network lacks")
    ours = {}
    for part in ("weight", "bias"):
        for theirs, own in plain.items():
            if f"{theirs}.{part}" in state:
                ours[f"{own}.{part}"] = state[f"{theirs}.{part}"]
        for theirs, own in attentions.items():
            stacked = torch.stack([state[f"{theirs}.{name}.{part}"] for name in QKV])
            out = state[f"{theirs}.to_out.0.{part}"]
            if heads is None:
                ours[f"{own}.qkv.{part}"], ours[f"{own}.proj.{part}"] = stacked.flatten(0, 1), out
                continue
            stacked = rearrange(stacked, "three (n c) ... -> (n three c) ...", n=heads[stacked.shape[1]])
            if part == "weight":
                stacked, out = stacked[..., None], out[..., None]
            ours[f"{own}.qkv.{part}"], ours[f"{own}.proj_out.{part}"] = stacked, out
            ours[f"{own}.norm.{part}"] = state[f"{theirs}.group_norm.{part}"]
    return ours


def to_theirs(
    state: Mapping[str, Tensor],
    plain: Mapping[str, str],
    attentions: Mapping[str, str],
    heads: Mapping[int, int] | None,
) -> dict[str, Tensor]:
    """The inverse of `to_ours`."""
    theirs = {}
    for part in ("weight", "bias"):
        for name, own in plain.items():
            if f"{own}.{part}" in state:
                theirs[f"{name}.{part}"] = state[f"{own}.{part}"]
        for name, own in attentions.items():
            qkv = state[f"{own}.qkv.{part}"]
            if heads is None:
                separate, out = qkv.chunk(3), state[f"{own}.proj.{part}"]
            else:
                flat = qkv[..., 0] if part == "weight" else qkv
                count = heads[len(flat) // 3]
                separate = tuple(rearrange(flat, "(n three c) ... -> three (n c) ...", three=3, n=count))
                out = state[f"{own}.proj_out.{part}"]
                out = out[..., 0] if part == "weight" else out
                theirs[f"{name}.group_norm.{part}"] = state[f"{own}.norm.{part}"]
            theirs |= {f"{name}.{key}.{part}": value for key, value in zip(QKV, separate, strict=True)}
            theirs[f"{name}.to_out.0.{part}"] = out
    return {name: value.contiguous() for name, value in theirs.items()}
