"""Reads pickles written by NVIDIA's `torch_utils.persistence` without running what they hold.

Such a file carries source code that the usual unpickling executes. Here every object becomes an inert record of its
class's name and state; only tensors, arrays and plain containers are rebuilt, and anything else is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch
from torch import Tensor

from realuid.utils import budget, torch_files
from realuid.utils.arrays import NUMPY
from realuid.utils.errors import CheckpointError
from realuid.utils.pickles import PLAIN, Maker, Reader, Refused
from realuid.utils.restorable import Restorable
from realuid.utils.torch_types import TORCH_TYPES


class Record(Restorable):
    """What is left of an object: `name` of its class and its `state`, a dict."""

    name = ""
    state: dict[str, Any]

    def __init__(self, *_: Any) -> None:
        self.state = {}

    def restore(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {"state": state}

    def __getitem__(self, key: str) -> Any:
        return self.state[key]

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Names and values of a module's parameters and buffers, as in its state dict."""
        passing = self.state.get("_non_persistent_buffers_set") or ()
        for part in ("_parameters", "_buffers"):
            for name, value in (self.state.get(part) or {}).items():
                if isinstance(value, Tensor) and not (part == "_buffers" and name in passing):
                    yield prefix + name, value.detach()
        for name, module in (self.state.get("_modules") or {}).items():
            if isinstance(module, Record):
                yield from module.tensors(f"{prefix}{name}.")


def _persistent(meta: Any) -> Record:
    record = Record()
    record.name = str(meta["class_name"])
    record.restore(dict(meta["state"] or {}))
    return record


def _storage(content: Any) -> Any:
    """A tensor's numbers, which lie in the pickle as a file of torch.save."""
    if not isinstance(content, bytes):
        raise Refused("it holds a tensor that is no bytes")
    storage = torch_files.read(io.BytesIO(content))
    if not isinstance(storage, torch.TypedStorage):
        raise Refused("it holds a tensor that is no storage")
    return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, torch.TypedStorage):
        raise Refused("it makes a tensor of something that is no storage")
    held = storage._untyped_storage
    torch_files.extent(offset, shape, strides, storage.dtype.itemsize, held.nbytes())
    return torch.empty(0, dtype=storage.dtype).set_(held, offset, torch.Size(shape), tuple(strides))


_KNOWN: dict[tuple[str, str], Any] = {
    **PLAIN,
    **NUMPY,
    ("torch", "Size"): Maker(lambda lengths=(): tuple(lengths)),
    ("torch", "device"): Maker(lambda *name: name),
    ("torch._utils", "_rebuild_tensor"): Maker(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Maker(_tensor),
    ("torch._utils", "_rebuild_parameter"): Maker(lambda data, *_: data),
    ("torch.storage", "_load_from_bytes"): Maker(_storage),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Maker(_persistent),
    ("dnnlib.util", "EasyDict"): Maker(lambda *items: dict(*items)),
}
_INERT = ("torch.nn.modules.", "torch_utils.", "dnnlib.", "training.")
"""Classes of these modules become records; those of no other are even looked at."""

TYPES_AND_LAYOUTS = TORCH_TYPES | {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.layout)
}


def _other(module: str, name: str) -> Any:
    if module == "torch" and name in TYPES_AND_LAYOUTS:
        return TYPES_AND_LAYOUTS[name]
    if f"{module}.".startswith(_INERT):
        return Maker(type(name, (Record,), {"name": name}))
    raise Refused(f"it refers to {module}.{name}, which is no weight")


def load(file: BinaryIO, origin: str) -> Any:
    """The content of a pickle, its objects as `Record`s.

    Args:
        file: opened for reading bytes.
        origin: name of the file, for messages.

    Raises:
        CheckpointError: one line, if the file is damaged or holds anything but weights and plain containers.
    """
    try:
        return Reader(_KNOWN, _other).read(file, budget.length(file))
    except (RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{origin} is not a readable pickle of weights: {reason}") from None
    except (IndexError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{origin} is not a readable pickle of weights: {type(error).__name__}") from None
