"""A student's adapters as the file that a pipeline of diffusers opens with `load_lora_weights`."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from realuid.networks.base import Network
from realuid.networks.lora import LoRA
from realuid.pretrained.conventions import NETWORKS
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import RunError

FILE = "pytorch_lora_weights.safetensors"


def save(folder: Path, network: Network) -> str:
    """Writes the adapters of a model of diffusers; returns the file's name. Their factor is multiplied into B, so that
    the file needs no alpha, and another adapter beside it keeps its own.

    Args:
        folder: made if it is not there.
        network: the student's, with the adapters.

    Raises:
        RunError: if it is no adapter, or not of a model of diffusers.
    """
    adapted, place, model = _checked(network)
    component = "unet" if "UNet" in type(model).__name__ else "transformer"
    tensors, factor = {}, adapted.alpha / adapted.rank
    for name, layer in adapted.layers().items():
        own = name.removeprefix(f"{place}." if place else "")
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        tensors[f"{component}.{own}.lora_A.weight"] = down.detach().float().cpu().contiguous()
        tensors[f"{component}.{own}.lora_B.weight"] = (factor * up.detach().float()).cpu().contiguous()
    content = importlib.import_module("safetensors.torch").save(tensors, metadata={"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, lambda part: part.write_bytes(content))
    return FILE


def check(network: Network) -> None:
    """Makes sure that `save` can write a network's adapters; errors as of it."""
    _checked(network)


def _checked(network: Network) -> tuple[LoRA, str, nn.Module]:
    """The adapters, the place of the model of diffusers inside, and that model."""
    if not isinstance(network, LoRA):
        raise RunError("--formats lora: the student has no adapters: bind student/MatchingModel.network = @LoRA()")
    return network, *_diffusers_model(network)


def can_merge(network: Network) -> bool:
    """Whether the merged student can be described in an export of this project."""
    return not isinstance(network, LoRA) or type(network.model).__name__ in NETWORKS


def _diffusers_model(network: LoRA) -> tuple[str, nn.Module]:
    """The model of diffusers inside an adapted network, and where it stands."""
    assert network.model is not None
    for name, module in network.model.named_modules():
        if any(
            base.__name__ == "ModelMixin" and base.__module__.startswith("diffusers.") for base in type(module).__mro__
        ):
            return name, module
    raise RunError(
        f"--formats lora: diffusers has no pipeline for adapters of a {type(network.model).__name__}: leave the format "
        "out, and the merged student is exported"
    )
