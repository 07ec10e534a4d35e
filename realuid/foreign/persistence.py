"""Reads pickles written by NVIDIA's `torch_utils.persistence` without running what they hold.

Such a file carries source code that the usual unpickling executes. Here every object becomes an inert record of its
class's name and state; only tensors, arrays and plain containers are rebuilt, and anything else is refused.
"""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from realuid.errors import CheckpointError


class Record:
    """What is left of an object: `name` of its class and its `state`, a dict."""

    name = ""
    state: dict[str, Any]

    def __init__(self, *_: Any) -> None:
        self.state = {}

    def __setstate__(self, state: Any) -> None:
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


class EasyDict(dict):
    """dnnlib's dict with attributes, without the attributes."""

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {})


class _Sealed:
    """A function that a pickle may call but not change."""

    __slots__ = ("_call",)
    _call: Callable

    def __init__(self, call: Callable) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change a function")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change a function")


def _persistent(meta: Any) -> Record:
    record = Record()
    record.name = str(meta["class_name"])
    record.__setstate__(dict(meta["state"] or {}))
    return record


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


def _encoded(text: str, codec: str = "latin1") -> bytes:
    if codec != "latin1":
        raise pickle.UnpicklingError(f"the file uses the codec {codec}")
    return text.encode(codec)


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("the file holds a numpy scalar that is no number")
    return np.frombuffer(content, dtype=dtype, count=1)[0]


def _array(*_: Any) -> np.ndarray:
    return np.empty(0)  # filled by its state, which follows


def _buffered(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("builtins", "complex"): complex,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _Sealed(_encoded),
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): Record,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor_v2"): _Sealed(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): _Sealed(torch._utils._rebuild_parameter),
    ("torch.storage", "_load_from_bytes"): _Sealed(_storage),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Sealed(_persistent),
    ("dnnlib.util", "EasyDict"): EasyDict,
    **{
        (module, name): _Sealed(function)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, function in (("_reconstruct", _array), ("scalar", _scalar))
    },
    **{(module, "_frombuffer"): _Sealed(_buffered) for module in ("numpy.core.numeric", "numpy._core.numeric")},
}
_INERT = ("torch.nn.modules.", "torch_utils.", "dnnlib.", "training.")
"""Classes of these modules become records; those of no other are even looked at."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in protocol 2
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), (torch.dtype, torch.layout)):
            return dtype
        if f"{module}.".startswith(_INERT):
            return type(name, (Record,), {"name": name})
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is no weight")


def load(file: BinaryIO, origin: str) -> Any:
    """The content of a pickle, its objects as `Record`s.

    Args:
        file: opened for reading bytes.
        origin: name of the file, for messages.

    Raises:
        CheckpointError: one line, if the file is damaged or holds anything but weights and plain containers.
    """
    try:
        return _Unpickler(file).load()
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{origin} is not a readable pickle of weights: {reason}") from None
    except (IndexError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{origin} is not a readable pickle of weights: {type(error).__name__}") from None
