"""Checkpoints of DiT and SiT (`.pt`: a bare state dict, or their training's `model`, `ema`, `opt` and `args`)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from realuid.networks.dit import positions
from realuid.pretrained import torchfile
from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.torchfile import is_state
from realuid.utils.errors import CheckpointError

LATENTS = Convention("latents", {"factor": 0.18215, "shift": 0.0, "autoencoder": "stabilityai/sd-vae-ft-ema"})
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Heads of the published sizes S, B, L and XL by width; a state dict does not tell them."""
PATHS = {
    "Linear": Convention("linear", {"t_source": 0.0, "t_data": 1.0}),
    "GVP": Convention("gvp"),
    "VP": Convention("vp", {"beta_min": 0.1, "beta_max": 20.0}),
}


def read(
    content: Any,
    origin: str,
    *,
    format: str,
    weights: str | None = None,
    known: Mapping[str, Any] | None = None,
) -> Foreign:
    """A file of DiT or SiT, whose weights look alike.

    Args:
        content: what was in the file (`torchfile.load`).
        origin: name of the file, for messages.
        format: `dit` or `sit`.
        weights: `ema` or `model`; None for the average where there is one.
        known: `heads`, for a model of none of the published widths.

    Raises:
        CheckpointError: if it is no such file.
    """
    sets = {"model": content} if is_state(content) else content if isinstance(content, Mapping) else {}
    label = weights or ("ema" if "ema" in sets else "model")
    if not is_state(sets.get(label)) or not any("x_embedder.proj.weight" in name for name in sets[label]):
        raise CheckpointError(f"{origin} holds no {format} under {label!r}")
    state = torchfile.floats(sets[label], strip=("module.",))
    try:
        arguments = _arguments(state) | dict(known or {})
        _own(state, arguments)
    except KeyError as error:
        raise CheckpointError(f"{origin} lacks the weight {error.args[0]}") from None
    except ValueError as error:
        raise CheckpointError(f"{origin}: {error}") from None
    path, target = _training(format, _options(sets.get("args")))
    return Foreign(
        network="DiT",
        arguments=arguments,
        state=state,
        path=path,
        target=target,
        preconditioning=Convention("none"),
        scaling=LATENTS,
        classes=arguments["classes"],
        null=True,
        weights=label,
        format=format,
    )


def _training(format: str, args: Mapping[str, Any]) -> tuple[Convention, str]:
    if format == "dit":
        return Convention("ddpm", {"steps": 1000, "betas": "linear", "beta_start": 1e-4, "beta_end": 0.02}), "noise"
    return PATHS[args.get("path_type", "Linear")], args.get("prediction", "velocity")


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width, channels, patch, _ = state["x_embedder.proj.weight"].shape
    side = math.isqrt(state["pos_embed"].shape[1]) * patch
    arguments = {
        "shape": (channels, side, side),
        "patch": patch,
        "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        "expansion": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "classes": len(state["y_embedder.embedding_table.weight"]) - 1,
    }
    return arguments | ({"heads": HEADS[width]} if width in HEADS else {})


def _own(state: dict[str, Tensor], arguments: Mapping[str, Any]) -> None:
    """Leaves out the fixed positions and the variance, in place."""
    if "heads" not in arguments:
        raise ValueError(
            f"width {arguments['width']} is no published size: bind Teacher.known = {{'heads': N}}, or --known heads=N"
        )
    rows = arguments["shape"][1] // arguments["patch"]
    fixed = state.pop("pos_embed")[0]
    if not torch.allclose(fixed, positions(rows, rows, arguments["width"]), atol=1e-5):
        raise ValueError("its positions are not the fixed sines and cosines of DiT")
    last, channels, pixels = "final_layer.linear", arguments["shape"][0], arguments["patch"] ** 2
    if len(state[f"{last}.weight"]) == 2 * channels * pixels:
        for name in (f"{last}.weight", f"{last}.bias"):
            both = rearrange(state[name], "(pixels two c) ... -> two (pixels c) ...", two=2, pixels=pixels)
            state[name] = both[0].contiguous()


def knows(content: Any) -> bool:
    """Whether the content looks like a file of DiT or SiT."""
    if not isinstance(content, Mapping):
        return False
    sets = (content, content.get("ema"), content.get("model"))
    return any(isinstance(entry, Mapping) and any("x_embedder.proj" in str(key) for key in entry) for entry in sets)


def told(content: Mapping[str, Any]) -> str | None:
    """`dit` or `sit`, if the options of the training are in the file."""
    if (args := content.get("args")) is None:
        return None
    return "sit" if "path_type" in _options(args) else "dit"


def _options(args: Any) -> dict[str, Any]:
    """The training's options, which its authors keep as argparse gives them."""
    return vars(args) if isinstance(args, argparse.Namespace) else {}
