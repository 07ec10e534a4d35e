"""EDM's and EDM2's snapshots (`network-snapshot-*.pkl`) onto our U-Nets."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from realuid.pretrained import persistence
from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.persistence import Record
from realuid.utils.arrays import Array
from realuid.utils.errors import CheckpointError

COMMON = {"model_channels": "width", "channel_mult": "multipliers", "num_blocks": "blocks"}
RENAMED = {
    "SongUNet": COMMON
    | {"channel_mult_emb": "embedding", "channel_mult_noise": "time_width", "resample_filter": "taps"},
    "DhariwalUNet": COMMON | {"channel_mult_emb": "embedding"},
    "UNet": COMMON
    | {"channel_mult_emb": "embedding", "channel_mult_noise": "time_width", "channels_per_head": "head_channels"},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "SongUNet": {"channel_mult": [1, 2, 2, 2], "attn_resolutions": [16]},
    "DhariwalUNet": {"attn_resolutions": [32, 16, 8]},
    "UNet": {"attn_resolutions": [16, 8]},
}
"""What EDM's constructors take for granted where ours differ or count otherwise."""
IGNORED = {"img_resolution", "in_channels", "img_channels", "out_channels", "label_dim", "augment_dim"}
IGNORED |= {"dropout", "label_dropout", "attn_resolutions"}
FIXED: dict[str, Any] = {
    "decoder_type": "standard",
    "label_balance": 0.5,
    "concat_balance": 0.5,
    "res_balance": 0.3,
    "attn_balance": 0.3,
    "clip_act": 256,
}
"""Arguments that our networks know with one value only."""


def read(file: BinaryIO, origin: str) -> Foreign:
    """A snapshot of EDM or EDM2: its `ema` network.

    Dropout and the augmentation embedding are left out; both act in EDM's training only.

    Raises:
        CheckpointError: if it is no such file, or of an architecture that our networks cannot express.
    """
    content = persistence.load(file, origin)
    net = content.get("ema") if isinstance(content, Mapping) else content
    if not isinstance(net, Record) or net.name not in PRECONDITIONINGS:
        raise CheckpointError(f"{origin} holds no network of EDM or EDM2 under 'ema'")
    model = net["_modules"].get("unet" if net.name == "Precond" else "model")
    if not isinstance(model, Record) or model.name not in RENAMED:
        found = model.name if isinstance(model, Record) else None
        raise CheckpointError(f"{origin}: its network is {found}, not one of {', '.join(RENAMED)}")
    known = dict(model["_init_kwargs"] or {})
    if model.state.get("_init_args"):
        raise CheckpointError(f"{origin}: its network was built with unnamed arguments")
    try:
        arguments = _arguments(model.name, known)
        state = _state(dict(model.tensors()), arguments)
        numbers = {name: net[key] for name, key in PRECONDITIONINGS[net.name][1].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{origin} is no snapshot of EDM: {type(error).__name__} {error}") from None
    except Unsupported as error:
        raise CheckpointError(f"{origin}: {error}") from None
    return Foreign(
        network="EDM2UNet" if model.name == "UNet" else model.name,
        arguments=arguments,
        state=state,
        path=Convention("edm", {"sigma_min": 0.002, "sigma_max": 80.0}),
        target="data",
        preconditioning=Convention(PRECONDITIONINGS[net.name][0], numbers),
        scaling=_scaling(content, arguments["shape"]),
        classes=arguments["classes"],
        null=bool(arguments["classes"]),
        weights="ema",
        format="edm",
    )


PRECONDITIONINGS: dict[str, tuple[str, dict[str, str]]] = {
    "EDMPrecond": ("edm", {"sigma_data": "sigma_data"}),
    "Precond": ("edm", {"sigma_data": "sigma_data"}),
    "VPPrecond": ("vp", {"beta_d": "beta_d", "beta_min": "beta_min", "steps": "M"}),
    "VEPrecond": ("ve", {}),
    "iDDPMPrecond": ("iddpm", {"c1": "C_1", "c2": "C_2", "steps": "M"}),
}
"""EDM's wrapper to our name, and the names of its numbers."""


MOST_DEPTHS = 32
"""Halvings of an image, more than any has."""


class Unsupported(Exception):
    """An architecture that our networks cannot express; one line."""


def _arguments(model: str, known: dict[str, Any]) -> dict[str, Any]:
    known = DEFAULTS[model] | known
    channels = known.get("in_channels", known.get("img_channels"))
    side, depths = int(known["img_resolution"]), len(known.get("channel_mult", (1, 2, 3, 4)))
    if depths > MOST_DEPTHS or len(known["attn_resolutions"]) > MOST_DEPTHS:
        raise Unsupported(f"its network halves images {depths - 1} times, or attends at as many sizes")
    arguments: dict[str, Any] = {
        "shape": (channels, side, side),
        "classes": int(known.get("label_dim", 0)),
        "attention": tuple(depth for depth in range(depths) if side >> depth in known["attn_resolutions"]),
    }
    for name, value in known.items():
        if name in RENAMED[model]:
            arguments[RENAMED[model][name]] = tuple(value) if isinstance(value, (list, tuple)) else value
        elif name == "embedding_type":
            arguments["waves"] = {"positional": "geometric", "fourier": "random"}[value]
        elif name == "encoder_type" and value != "skip":
            arguments["residual_input"] = value == "residual"
        elif name not in IGNORED and FIXED.get(name) != value:
            raise Unsupported(f"our {model} has no {name} = {reprlib.repr(value)}")
    return arguments


def _state(tensors: dict[str, Tensor], arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    channels, side = arguments["shape"][:2]
    renamed = {f"dec.{side}x{side}_aux_{last}.": f"out_{last}." for last in ("norm", "conv")}
    state = {}
    for name, value in tensors.items():
        if name.startswith("map_augment.") or name.endswith("resample_filter"):
            continue
        for old, new in renamed.items():
            name = name.replace(old, new)
        if name.startswith("out_conv.") and len(value) == 2 * channels:  # iDDPM's variance, which sampling drops
            value = value[:channels]
        state[name] = value.to(torch.float32).contiguous() if value.is_floating_point() else value
    return state


def _scaling(content: Any, shape: tuple[int, int, int]) -> Convention:
    encoder = content.get("encoder") if isinstance(content, Mapping) else None
    if isinstance(encoder, Record) and encoder.name == "StabilityVAEEncoder":
        scale, bias = (_numbers(encoder.state.get(key)) for key in ("scale", "bias"))
        shift = [-b / s for s, b in zip(scale, bias, strict=True)]
        return Convention(
            "latents", {"factor": scale, "shift": shift, "autoencoder": str(encoder.state.get("vae_name"))}
        )
    return Convention("pixels", {"low": -1.0, "high": 1.0})


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in (values.value if isinstance(values, Array) else values)]
