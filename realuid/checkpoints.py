"""Checkpoint files: one `torch.save` file anywhere fsspec reaches, written atomically, read without pickle's powers."""

from __future__ import annotations

import hashlib
import io
import os
from typing import Any

import fsspec
import torch
from torch import Tensor, nn

from realuid.errors import CheckpointError

FORMAT = 1


def save(path: str, state: dict[str, Any]) -> None:
    """Writes `state` (tensors, numbers, text, lists and dicts of them) to any fsspec URL: it is there whole, or not."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    fs, target = fsspec.core.url_to_fs(path)
    part = f"{target}.{os.getpid()}.part"
    fs.pipe_file(part, buffer.getbuffer())
    fs.mv(part, target)


def load(path: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint with `weights_only=True`: nothing in the file is ever executed.

    Raises:
        CheckpointError: one line, if the file is missing, damaged, or no file of weights.
    """
    try:
        with fsspec.open(path, "rb") as file:
            return torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except ImportError as error:  # a file system whose driver is not installed
        raise CheckpointError(f"cannot read {path}: {error}") from None
    except Exception as error:  # damage, and the errors that every kind of storage has of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} is not a readable checkpoint: {reason}") from None


def exists(path: str) -> bool:
    """Whether there is a file at this path or URL; False also where its storage cannot be reached."""
    try:
        fs, target = fsspec.core.url_to_fs(path)
        return bool(fs.exists(target))
    except Exception:  # every kind of storage has errors of its own
        return False


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
        if not bool(torch.isfinite(weights[name]).all()):
            raise CheckpointError(f"{path}: {name} is not finite")
    extra = [name for name in weights if name not in own]
    if extra:
        raise CheckpointError(f"{path} has the weight {extra[0]}, which the network that the gin file binds lacks")
    network.load_state_dict(weights)
    return average


def checksum(module: nn.Module) -> str:
    """sha256 (hexadecimal) over names, shapes and values of all weights: equal for equal models."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
