"""Files of `torch.save` and safetensors, read without pickle's powers, and the tensors in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from realuid.utils import budget, torch_files
from realuid.utils.errors import CheckpointError


def load(file: BinaryIO, origin: str) -> Any:
    """What `torch.save` wrote, if it is tensors, plain containers and argparse's options.

    Raises:
        CheckpointError: one line, if the file is damaged or holds anything else.
    """
    try:
        return torch_files.read(file)
    except Exception as error:  # damage may lead torch anywhere
        raise CheckpointError(f"{origin} is not a readable file of weights: {_reason(error)}") from None


def load_safetensors(file: BinaryIO, origin: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        CheckpointError: if the file is damaged, or the package safetensors is missing.
    """
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise CheckpointError(f"{origin}: safetensors files need `pip install safetensors`") from None
    content = file.read()
    try:
        budget.check_header(content)
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")  # then so many bytes of JSON
        header = budget.parsed(content[8 : 8 + length], "its header")
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{origin} is not a readable safetensors file: {_reason(error)}") from None
    return tensors, dict(header.get("__metadata__") or {})


def map_safetensors(path: Path, origin: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file, mapped into memory: their pages are read when they are used.

    Raises:
        CheckpointError: if the file is damaged, or the package safetensors is missing.
    """
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise CheckpointError(f"{origin}: safetensors files need `pip install safetensors`") from None
    try:
        with path.open("rb") as file:
            budget.check_header(file.read(8))
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{origin} is not a readable safetensors file: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_state(value: Any) -> bool:
    """Whether `value` is a state dict: names to tensors, at least one."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def floats(state: Mapping[str, Tensor], strip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weights in float32, contiguous, without these prefixes (each removed once, in turn)."""
    cleaned = {}
    for name, value in state.items():
        for prefix in strip:
            name = name.removeprefix(prefix)
        value = value.detach()
        cleaned[name] = value.to(torch.float32).contiguous() if value.is_floating_point() else value
    return cleaned
