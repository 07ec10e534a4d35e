"""A network's weights out of a checkpoint, and what stands for them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from realuid.checkpoints.reading import load
from realuid.utils.errors import CheckpointError


def network_weights(path: str, ema: str | None = None) -> tuple[dict[str, Tensor], str | None]:
    """The network's weights in one of our checkpoints, or in a plain file of named tensors.

    Args:
        path: path or URL.
        ema: name of the average to take, for instance `0.999`; None for the first.

    Returns:
        Weights by names relative to the network (`input_blocks.0.0.weight`), whichever model it sat in, and the name of
        the average that they are, if they are one.

    Raises:
        CheckpointError: if the file cannot be read, holds no weights, or has no such average.
    """
    state, name = load(path), None
    if isinstance(state.get("ema"), dict):
        averages: dict[str, dict[str, Tensor]] = state["ema"]["weights"]
        name = next(iter(averages)) if ema is None else ema
        if name not in averages:
            raise CheckpointError(f"{path} has no average {name!r}, only {', '.join(map(repr, averages))}")
        state = averages[name]
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no weights: named tensors, or a checkpoint of this project, are needed")
    if any(".lora_" in key for key in state):
        raise CheckpointError(f"{path} holds the adapters of another network: export the student, which merges them")
    return {key.rpartition("network.")[2]: value for key, value in state.items()}, name


def load_network(network: nn.Module, path: str, ema: str | None = None) -> str | None:
    """Loads `network_weights` into a network of the same architecture; returns the name of the average it took.

    Raises:
        CheckpointError: naming the first weight that is missing, unexpected, of another shape or not finite.
    """
    (weights, average), own = network_weights(path, ema), network.state_dict()
    for name, value in own.items():
        if name not in weights:
            raise CheckpointError(f"{path} lacks the weight {name} of the network that the gin file binds")
        if weights[name].shape != value.shape:
            raise CheckpointError(
                f"{path}: {name} is {list(weights[name].shape)}, the network that the gin file binds has "
                f"{list(value.shape)}"
            )
        if weights[name].is_floating_point() != value.is_floating_point() or weights[name].is_complex():
            raise CheckpointError(
                f"{path}: {name} is of type {_dtype(weights[name])}, the network's is {_dtype(value)}"
            )
        if not bool(torch.isfinite(weights[name]).all()):
            raise CheckpointError(f"{path}: {name} is not finite")
    extra = [name for name in weights if name not in own]
    if extra:
        raise CheckpointError(f"{path} has the weight {extra[0]}, which the network that the gin file binds lacks")
    network.load_state_dict(weights)
    return average


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def checksum(module: nn.Module) -> str:
    """sha256 (hexadecimal) over names, shapes and values of all weights: equal for equal models."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
