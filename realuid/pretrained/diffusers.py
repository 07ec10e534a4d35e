"""diffusers' folders: a `UNet2DModel` or `DiTTransformer2DModel`, alone or in a pipeline with its scheduler.

The package diffusers is not needed: a folder is JSON and weights.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import torch
from einops import rearrange
from torch import Tensor

from realuid.pretrained import diffusers_names, torchfile
from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.other_paths import refuse_other_paths
from realuid.utils import budget
from realuid.utils.errors import CheckpointError

Open = Callable[[str], BinaryIO]
"""Opens a file of the folder by its name in it; raises FileNotFoundError."""
MODELS = ("unet/", "transformer/", "")
SCHEDULERS = ("scheduler/scheduler_config.json", "scheduler_config.json")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PREDICTIONS = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}


def read(open_file: Open, origin: str) -> Foreign:
    """A folder of diffusers.

    Args:
        open_file: opens its files.
        origin: name of the folder, for messages.

    Raises:
        CheckpointError: if there is no such model in it, or one that our networks cannot express.
    """
    place, config = _config(open_file, origin)
    model = config.get("_class_name")
    if model not in READERS:
        raise CheckpointError(
            f"{origin} holds a {model}, not one of {', '.join(READERS)}: use the network DiffusersModel for it"
        )
    state = _weights(open_file, origin, place)
    path, target, preconditioning, time_scale = _schedule(open_file, origin)
    try:
        arguments, state = READERS[model](config, state)
    except KeyError as error:
        raise CheckpointError(f"{origin} lacks {error.args[0]}") from None
    except ValueError as error:
        raise CheckpointError(f"{origin}: {error}; use the network DiffusersModel for it") from None
    latents = model == "DiTTransformer2DModel"
    return Foreign(
        network="DiT" if latents else "UNet",
        arguments=arguments | {"time_scale": time_scale},
        state=state,
        path=path,
        target=target,
        preconditioning=preconditioning,
        scaling=_scaling(open_file, latents),
        classes=arguments["classes"],
        null=latents,
        weights="model",
        format="diffusers",
    )


def _json(open_file: Open, name: str, origin: str) -> dict[str, Any]:
    with open_file(name) as file:
        try:
            content = budget.parsed(file.read(), f"{origin}/{name}")
        except ValueError as error:
            raise CheckpointError(str(error)) from None
    return content if isinstance(content, dict) else {}


def _config(open_file: Open, origin: str) -> tuple[str, dict[str, Any]]:
    for place in MODELS:
        try:
            return place, _json(open_file, f"{place}config.json", origin)
        except FileNotFoundError:
            continue
    raise CheckpointError(
        f"{origin} holds no model: expected config.gin (a run), or unet/config.json, transformer/config.json or "
        "config.json (diffusers)"
    )


def _weights(open_file: Open, origin: str, place: str) -> dict[str, Tensor]:
    for name in WEIGHTS:
        try:
            with open_file(place + name) as file:
                if name.endswith("safetensors"):
                    return torchfile.floats(torchfile.load_safetensors(file, f"{origin}/{place}{name}")[0])
                content = torchfile.load(file, f"{origin}/{place}{name}")
        except FileNotFoundError:
            continue
        if not torchfile.is_state(content):
            raise CheckpointError(f"{origin}/{place}{name} is no state dict")
        return torchfile.floats(content)
    raise CheckpointError(f"{origin} has no {place}{WEIGHTS[0]} or {WEIGHTS[1]}")


def _schedule(open_file: Open, origin: str) -> tuple[Convention | None, str | None, Convention, float]:
    """Path, target, preconditioning, and what the network's time is multiplied by."""
    for name in SCHEDULERS:
        try:
            config = _json(open_file, name, origin)
        except FileNotFoundError:
            continue
        steps = config.get("num_train_timesteps", 1000)
        kind = config.get("_class_name", "")
        prediction = config.get("prediction_type", "epsilon")
        refuse_other_paths(config, f"{origin}/{name}")
        if kind.startswith("FlowMatch") or config.get("use_flow_sigmas"):
            # Time is the noise's share; the network is shown it times `steps`.
            return Convention("linear", {"t_source": 1.0, "t_data": 0.0}), "velocity", Convention("none"), float(steps)
        if kind.startswith("EDM") and prediction == "epsilon":
            sigmas = {key: config.get(key, default) for key, default in (("sigma_min", 0.002), ("sigma_max", 80.0))}
            data = Convention("edm", {"sigma_data": config.get("sigma_data", 0.5)})
            return Convention("edm", sigmas), "data", data, 1.0
        if "beta_schedule" in config or config.get("trained_betas"):
            betas = config.get("trained_betas") or config["beta_schedule"]
            numbers: dict[str, Any] = {"steps": steps, "betas": betas}
            if betas in ("linear", "scaled_linear"):
                numbers |= {"beta_start": config.get("beta_start", 1e-4), "beta_end": config.get("beta_end", 0.02)}
            return Convention("ddpm", numbers), PREDICTIONS.get(prediction), Convention("none"), 1.0
    return None, None, Convention("none"), 1.0


def _scaling(open_file: Open, latents: bool) -> Convention:
    if not latents:
        return Convention("pixels", {"low": -1.0, "high": 1.0})
    try:
        config = _json(open_file, "vae/config.json", "vae")
    except FileNotFoundError:
        config = {}
    numbers = {"factor": config.get("scaling_factor", 0.18215), "shift": config.get("shift_factor") or 0.0}
    return Convention("latents", numbers | {"autoencoder": "vae"})


def _expect(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise ValueError(f"our network has no {name} = {reprlib.repr(config[name])}")


def _unet(config: Mapping[str, Any], state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    outs, blocks = config["block_out_channels"], config.get("layers_per_block", 2)
    depths = len(outs)
    attention = tuple(depth for depth, kind in enumerate(config["down_block_types"]) if kind == "AttnDownBlock2D")
    mirrored = ["AttnUpBlock2D" if depth in attention else "UpBlock2D" for depth in reversed(range(depths))]
    _expect(
        config,
        {
            "down_block_types": ["AttnDownBlock2D" if d in attention else "DownBlock2D" for d in range(depths)],
            "up_block_types": mirrored,
            "mid_block_type": "UNetMidBlock2D",
            "center_input_sample": False,
            "time_embedding_type": "positional",
            "time_embedding_dim": None,
            "mid_block_scale_factor": 1,
            "downsample_type": "conv",
            "upsample_type": "conv",
            "act_fn": "silu",
            "norm_num_groups": 32,
            "attn_norm_num_groups": 32 if config.get("attn_norm_num_groups") else None,
            "add_attention": True,
            "class_embed_type": None,
        },
    )
    if config.get("freq_shift", 0) not in (0, 1) or config.get("downsample_padding", 1) not in (0, 1):
        raise ValueError("our network has frequency shifts and paddings of 0 and 1 only")
    if not 0 < blocks * depths <= len(state):
        raise ValueError(f"it has {len(state)} weights and speaks of {depths} times {blocks} blocks")
    width, size = outs[0], config["sample_size"]
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if any(out % width for out in outs):
        raise ValueError(f"its channels {list(outs)} are no multiples of the first")
    per_head = config.get("attention_head_dim", 8)
    arguments = {
        "shape": (config.get("in_channels", 3), *sides),
        "width": width,
        "multipliers": tuple(out // width for out in outs),
        "blocks": blocks,
        "attention": attention,
        **({"heads": 1} if per_head is None else {"head_channels": per_head}),
        "classes": config.get("num_class_embeds") or 0,
        "conditioning": {"default": "add", "scale_shift": "scale_shift"}[
            config.get("resnet_time_scale_shift", "default")
        ],
        "padding": "around" if config.get("downsample_padding", 1) else "after",
        "endpoint": bool(config.get("freq_shift", 0)),
        "eps": config.get("norm_eps", 1e-5),
    }
    for old, new in diffusers_names.DEPRECATED.items():
        state = {name.replace(f".{old}.", f".{new}."): value for name, value in state.items()}
    heads = {out: 1 if per_head is None else max(1, out // per_head) for out in outs}
    own = diffusers_names.to_ours(state, *diffusers_names.unet(depths, blocks, attention), heads)
    if not config.get("flip_sin_to_cos", True):  # its sines come first
        own["time_embed.0.weight"] = torch.cat(own["time_embed.0.weight"].chunk(2, dim=1)[::-1], dim=1)
    _expect({"out_channels": len(own["out.2.bias"])}, {"out_channels": arguments["shape"][0]})
    return arguments, own


def _dit(config: Mapping[str, Any], state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _expect(
        config,
        {
            "norm_type": "ada_norm_zero",
            "activation_fn": "gelu-approximate",
            "attention_bias": True,
            "norm_elementwise_affine": False,
        },
    )
    heads, depth, size = config["num_attention_heads"], config["num_layers"], config["sample_size"]
    channels, patch = config["in_channels"], config["patch_size"]
    if not 0 < depth <= len(state):
        raise ValueError(f"it has {len(state)} weights and speaks of {depth} layers")
    arguments = {
        "shape": (channels, size, size),
        "patch": patch,
        "width": heads * config["attention_head_dim"],
        "depth": depth,
        "heads": heads,
        "classes": config["num_embeds_ada_norm"],
        "endpoint": True,
        "eps": config.get("norm_eps", 1e-5),
    }
    first = "transformer_blocks.0.norm1.emb."
    for name in [name for name in state if ".norm1.emb." in name and not name.startswith(first)]:
        if not torch.equal(state.pop(name), state[first + name.partition(".norm1.emb.")[2]]):
            raise ValueError("its blocks embed times and labels differently")
    own = diffusers_names.to_ours(state, *diffusers_names.dit(depth), None)
    if (config.get("out_channels") or channels) == 2 * channels:
        for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
            both = rearrange(own[name], "(pixels two c) ... -> two (pixels c) ...", two=2, pixels=patch**2)
            own[name] = both[0].contiguous()
    return arguments, own


READERS = {"UNet2DModel": _unet, "DiTTransformer2DModel": _dit}
