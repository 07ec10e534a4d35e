"""U-Nets with guided-diffusion's module names: guided-diffusion itself, I2SB, TorchCFM, and RealUID's authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from einops import rearrange
from torch import Tensor

from realuid.pretrained import torchfile
from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.torchfile import is_state
from realuid.utils.errors import CheckpointError

HEAD = "cls_pred_branch."
"""The GAN head of RealUID's authors."""
MARK = "input_blocks.0.0.weight"


class SizeUntold(CheckpointError):
    """A file does not tell the size of its images, and nobody else did; one line."""


class _Set(NamedTuple):
    """One of the sets of weights in a file."""

    format: str
    label: str
    state: Mapping[str, Tensor]


def read(
    content: Any,
    origin: str,
    *,
    format: str | None = None,
    weights: str | None = None,
    known: Mapping[str, Any] | None = None,
) -> Foreign:
    """A file of guided-diffusion, I2SB, TorchCFM or RealUID's authors.

    Args:
        content: what was in the file (`torchfile.load`).
        origin: name of the file, for messages.
        format: whose conventions hold, see `CONVENTIONS`; None to go by the names in the file (a bare state dict is
            taken for guided-diffusion's).
        weights: which set of weights to take where a file has several (`ema 0.999`, `net`, ...); None for the first
            average.
        known: what such a file does not tell, as arguments of `UNet`: `shape` (I2SB's is (3, 256, 256)),
            `head_channels` (64 unless given) or `heads`; and `attention_order`, `new` for a model with
            `use_new_attention_order`; `betas`, `squaredcos_cap_v2` for a model of guided-diffusion with cosine noise.

    Raises:
        CheckpointError: if it is no such file, or of an architecture that `UNet` cannot express.
    """
    sets = _sets(content)
    if not sets:
        raise CheckpointError(f"{origin} holds no U-Net with guided-diffusion's names")
    chosen = next((entry for entry in sets if weights in (None, entry.label)), None)
    if chosen is None:
        raise CheckpointError(f"{origin} has no weights {weights!r}, only {', '.join(repr(s.label) for s in sets)}")
    state = torchfile.floats(chosen.state, strip=("module.", "diffusion_model."))
    extra = {name: state.pop(name) for name in list(state) if name.startswith(HEAD)}
    told = dict(known or {})
    order, betas = told.pop("attention_order", "legacy"), told.pop("betas", "linear")
    format = format or chosen.format
    if format == "i2sb":
        told = {"shape": (3, 256, 256)} | told
    if "shape" not in told:
        raise SizeUntold(
            f"{origin} does not tell the size of its images: bind Teacher.known = {{'shape': (3, 32, 32)}}, or give "
            "--known shape=3,32,32, with its own"
        )
    try:
        arguments = architecture(state) | told
        if format == "i2sb" and state[MARK].shape[1] == 2 * arguments["shape"][0]:
            arguments["in_multiplier"] = 2  # cond_x1: beside x_t it is given the degraded image
        state = _own(state, arguments, order)
    except KeyError as error:
        raise CheckpointError(f"{origin} lacks the weight {error.args[0]}") from None
    except ValueError as error:
        raise CheckpointError(f"{origin}: {error}") from None
    path, target = CONVENTIONS[format]
    if path.name == "ddpm" and betas != "linear":
        path = Convention("ddpm", {"steps": 1000, "betas": betas})
    return Foreign(
        network="UNet",
        arguments=arguments,
        state=state,
        path=path,
        target=target,
        preconditioning=Convention("none"),
        scaling=Convention("pixels", {"low": -1.0, "high": 1.0}),
        classes=arguments["classes"],
        null=False,
        weights=chosen.label,
        format=format,
        extra=extra,
    )


CONVENTIONS: dict[str, tuple[Convention, str]] = {
    "guided-diffusion": (
        Convention("ddpm", {"steps": 1000, "betas": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        "noise",
    ),
    "i2sb": (Convention("i2sb", {"steps": 1000, "beta_max": 0.3, "t0": 1e-4, "t1": 1.0}), "i2sb"),
    "torchcfm": (Convention("linear", {"t_source": 0.0, "t_data": 1.0}), "velocity"),
    "realuid-authors": (Convention("linear", {"t_source": 0.0, "t_data": 1.0}), "velocity"),
}
"""What each project's own training uses unless told otherwise; its files do not say."""


def _sets(content: Any) -> list[_Set]:
    """The sets of weights in a file, averages first."""
    if not isinstance(content, Mapping):
        return []
    if is_state(content):
        found = [_Set("guided-diffusion", "net", content)]
    else:
        averages = {"ema_gens": "realuid-authors", "ema_models": "realuid-authors"}
        found = [
            _Set(owner, f"ema {decay}", state)
            for key, owner in averages.items()
            for decay, state in (content[key].items() if isinstance(content.get(key), Mapping) else ())
        ]
        owner = found[0].format if found else "torchcfm"
        found += [_Set(owner, key, content[key]) for key in ("ema_model", "gen", "net_model", "u") if key in content]
        net, ema = content.get("net"), content.get("ema")
        if net is not None and is_state(net):
            shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
            if isinstance(shadow, list) and len(shadow) == len(net):  # torch_ema keeps parameters in order, unnamed
                found.append(_Set("i2sb", "ema", dict(zip(net, shadow, strict=True))))
            found.append(_Set("i2sb", "net", net))
    return [entry for entry in found if is_state(entry.state) and any(MARK in name for name in entry.state)]


def architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `UNet` that the shapes of its weights tell: all but `shape` and the attention heads.

    Raises:
        KeyError: with the name of a weight that every such network has.
        ValueError: if `UNet` cannot express the network.
    """
    width = state["time_embed.0.weight"].shape[1]
    ins = sum(name.startswith("input_blocks.") and name.endswith(".0.in_layers.0.weight") for name in state)
    levels = [name for name in state if name.startswith("output_blocks.") and name.split(".")[2] != "0"]
    ups = {name.split(".")[1] for name in levels if name.endswith((".conv.weight", ".in_layers.0.weight"))}
    inner = {name.split(".")[1] for name in levels if name.endswith(".in_layers.0.weight")}
    depths = len(ups) + 1
    blocks = (ins - len(inner)) // depths
    if blocks < 1:
        raise ValueError("its blocks do not form a U-Net")
    firsts = [f"input_blocks.{1 + depth * (blocks + 1)}" for depth in range(depths)]
    outs = [state[f"{first}.0.out_layers.3.weight"].shape[0] for first in firsts]
    if any(out % width for out in outs):
        raise ValueError(f"channels {outs} are no multiples of its width {width}")
    embedded = state[f"{firsts[0]}.0.emb_layers.1.weight"].shape[0]
    return {
        "width": width,
        "multipliers": tuple(out // width for out in outs),
        "blocks": blocks,
        "attention": tuple(depth for depth, first in enumerate(firsts) if f"{first}.1.qkv.weight" in state),
        "classes": len(state["label_emb.weight"]) if "label_emb.weight" in state else 0,
        "conditioning": "scale_shift" if embedded == 2 * outs[0] else "add",
        "resampling": "block" if inner else "conv",
        "out_multiplier": 1,
    }


def _own(state: dict[str, Tensor], arguments: Mapping[str, Any], order: str) -> dict[str, Tensor]:
    """The weights as `UNet` has them."""
    channels, ins = arguments["shape"][0], state[MARK].shape[1]
    if ins != channels * arguments.get("in_multiplier", 1):
        raise ValueError(f"its input has {ins} channels, not {channels}: a model that is also given another image")
    outs = len(state["out.2.weight"])
    if outs == 2 * channels:  # the variance that guided-diffusion learns beside its target
        state |= {name: state[name][:channels] for name in ("out.2.weight", "out.2.bias")}
    if order == "legacy":
        return state
    for name in [name for name in state if ".qkv." in name]:
        total = len(state[name]) // 3
        heads = arguments.get("heads") or max(1, total // arguments.get("head_channels", 64))
        state[name] = rearrange(state[name], "(three n c) ... -> (n three c) ...", three=3, n=heads)
    return state
