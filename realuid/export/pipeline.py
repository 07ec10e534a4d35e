r"""The student as a pipeline of diffusers, for unconditional students whose network is our `UNet`.

`DDPMPipeline` evaluates `UNet2DModel` at each of its scheduler's times, of which there is one here. The student's
time is constant, so its embedding moves into a bias; its scalings move into the first and last convolution and into the
scheduler, whose step with a network's answer out is, from x = noise:

    skip = 0            x_1 = out                                   DDPM, prediction `sample`
    0 < skip < 1        x_1 = skip x - sqrt(1 - skip^2) out         DDPM, prediction `v_prediction`, beta = 1 - skip^2
    skip = 1            x_1 = x - out                               flow matching, one Euler step
    skip > 1            x_1 = skip x - sqrt(skip^2 - 1) out         DDPM, prediction `epsilon`, beta = 1 - 1 / skip^2
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.export.student import ExportedStudent, Step
from realuid.networks.embedding import sinusoidal
from realuid.networks.unet import UNet
from realuid.pretrained import diffusers_names
from realuid.utils.errors import RunError

GROUPS = 32


def save(folder: Path, student: ExportedStudent, arguments: Mapping[str, Any]) -> None:
    """Writes a folder that `diffusers.DDPMPipeline.from_pretrained` opens; call it with `num_inference_steps=1`.

    Args:
        folder: made if it is not there.
        student: what is exported.
        arguments: all of its network's constructor's.

    Raises:
        RunError: as `check` does.
    """
    network, step = student.network, check(student, arguments)
    assert isinstance(network, UNet)
    scheduler, factor = _scheduler(step.skip)
    config, heads = _config(arguments, network)
    state = _state(step, network, factor)
    names = diffusers_names.unet(len(arguments["multipliers"]), arguments["blocks"], arguments["attention"])
    theirs = diffusers_names.to_theirs(state, *names, heads)
    files = {
        "model_index.json": {
            "_class_name": "DDPMPipeline",
            "_diffusers_version": "0.30.0",
            "scheduler": ["diffusers", scheduler["_class_name"]],
            "unet": ["diffusers", "UNet2DModel"],
        },
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": config,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    importlib.import_module("safetensors.torch").save_file(
        theirs, folder / "unet" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"}
    )


def check(student: ExportedStudent, arguments: Mapping[str, Any]) -> Step:
    """The student's one step, if it can be such a pipeline; arguments as of `save`.

    Raises:
        RunError: if `UNet2DModel` or `DDPMPipeline` cannot express the student.
    """
    network = student.network
    if not isinstance(network, UNet) or arguments["resampling"] != "conv":
        raise RunError("diffusers has no pipeline for this network: only our UNet with resampling by convolutions fits")
    if student.conditions:
        raise RunError("diffusers has no pipeline for a U-Net with class labels")
    step = student.step
    if step is None or student.from_images:
        raise RunError("diffusers has no pipeline for this student: DDPMPipeline takes one step, on noise alone")
    if len(step.out) != 1 or step.skip < 0:
        raise RunError("diffusers has no scheduler for this student: only for one row and skip >= 0")
    _config(arguments, network)
    return step


def _scheduler(skip: float) -> tuple[dict[str, Any], float]:
    """Its configuration, and the factor of the network's answer in its step."""
    if abs(skip - 1) < 1e-6:
        flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
        return flow, -1.0
    if skip == 0:
        prediction, beta, factor = "sample", 0.5, 1.0
    elif skip < 1:
        prediction, beta, factor = "v_prediction", 1 - skip**2, -math.sqrt(1 - skip**2)
    else:
        prediction, beta, factor = "epsilon", 1 - skip**-2, -math.sqrt(skip**2 - 1)
    config = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": 1,
        "trained_betas": [beta],
        "prediction_type": prediction,
        "clip_sample": False,
        "variance_type": "fixed_small",
    }
    return config, factor


def _config(arguments: Mapping[str, Any], network: UNet) -> tuple[dict[str, Any], dict[int, int]]:
    """The configuration of `UNet2DModel`, and the attention heads by channels."""
    multipliers, attention = arguments["multipliers"], arguments["attention"]
    outs = [arguments["width"] * multiplier for multiplier in multipliers]
    attentive = {outs[depth] for depth in attention} | {outs[-1]}
    if arguments["heads"] not in (None, 1):
        raise RunError("UNet2DModel counts channels of a head, not heads: only heads = 1 or head_channels fit")
    per_head = None if arguments["heads"] == 1 else arguments["head_channels"]
    if per_head is not None and any(out % per_head for out in attentive):
        raise RunError(f"UNet2DModel needs channels that divide into heads of {per_head}, not {sorted(attentive)}")
    norms = {module.num_groups for module in network.modules() if isinstance(module, torch.nn.GroupNorm)}
    if norms != {GROUPS}:
        raise RunError(f"UNet2DModel needs the same number of groups in all norms, here it is {sorted(norms)}")
    down = ["AttnDownBlock2D" if depth in attention else "DownBlock2D" for depth in range(len(outs))]
    channels, height, width = arguments["shape"]
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": outs,
        "layers_per_block": arguments["blocks"],
        "down_block_types": down,
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(down)],
        "attention_head_dim": per_head,
        "norm_num_groups": GROUPS,
        "attn_norm_num_groups": GROUPS,
        "norm_eps": arguments["eps"],
        "downsample_padding": 1 if arguments["padding"] == "around" else 0,
        "resnet_time_scale_shift": "default" if arguments["conditioning"] == "add" else "scale_shift",
    }
    return config, {out: 1 if per_head is None else out // per_head for out in attentive}


def _state(step: Step, network: UNet, factor: float) -> dict[str, Tensor]:
    """Our weights, with the student's scalings and time in them."""
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    time = torch.tensor([step.time]) * network.time_scale
    waves = sinusoidal(time, network.width, endpoint=network.endpoint)[0]
    state["time_embed.0.bias"] += state["time_embed.0.weight"] @ waves
    state["time_embed.0.weight"].zero_()
    state["input_blocks.0.0.weight"] *= step.into
    for name in ("out.2.weight", "out.2.bias"):
        state[name] *= step.out[0] / factor
    return state
