"""Files of `torch.save`, looked through before torch reads them.

`torch.load(weights_only=True)` runs nothing, but it allocates what it is told to: storages of any length, arrays of
bytes, views that repeat one number, and what its archive unpacks to. Here the pickle is walked through with records
in place of tensors, and everything is compared with the size of the file.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import math
import pickle
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from realuid.utils import budget
from realuid.utils.pickles import PLAIN, Maker, Reader, Refused
from realuid.utils.restorable import Restorable
from realuid.utils.torch_types import TORCH_TYPES

ITEM_BYTES = {
    "UntypedStorage": 1,
    **{f"{name}Storage": 1 for name in ("Byte", "Char", "Bool", "Float8_e4m3fn", "Float8_e5m2")},
    **{f"{name}Storage": 2 for name in ("Half", "BFloat16", "Short")},
    **{f"{name}Storage": 4 for name in ("Float", "Int")},
    **{f"{name}Storage": 8 for name in ("Double", "Long", "ComplexFloat")},
    "ComplexDoubleStorage": 16,
}
"""Bytes of a number in each of torch's kinds of storage."""
MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class Storage:
    """Numbers in the file."""

    key: str
    item: int
    nbytes: int


@dataclass(frozen=True)
class View:
    """A tensor: `nbytes` is what it takes where it does not share its numbers."""

    nbytes: int


class Options(Restorable):
    """What argparse gave a project's own training."""

    def restore(self, state: Any) -> None:
        self.state = state


def read(file: BinaryIO, device: str | torch.device = "cpu") -> Any:
    """What `torch.save` wrote in either form, if it is tensors, plain containers and argparse's options.

    Args:
        file: opened for reading bytes.
        device: where tensors go.

    Raises:
        ValueError: one line, if it is no such file, holds more than weights, or asks for more than its size allows.
        RuntimeError, OSError: torch's, if the file is damaged.
    """
    inspect(file)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError:  # of which torch says how to run it
        raise Refused("torch takes it for more than weights") from None


def inspect(file: BinaryIO) -> None:
    """Looks through a file of `torch.save`, and leaves it at its beginning. Raises ValueError as `read` does."""
    size = budget.length(file)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    try:
        if start == b"PK\x03\x04":
            _archive(file, size)
        else:
            _stream(file, size)
    except (KeyError, IndexError, TypeError, AttributeError, EOFError, OverflowError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is damaged, or no file of torch.save: {type(error).__name__} {error}") from None
    finally:
        file.seek(0)


def _archive(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        lengths = {info.filename: info.file_size for info in archive.infolist()}
        if len(lengths) < len(archive.infolist()) or len({name.partition("/")[0] for name in lengths}) > 1:
            raise Refused("its archive holds two files of one name, or two folders")
        budget.spend(sum(lengths.values()), size, "its archive")
        root = next(iter(lengths), "").partition("/")[0]
        content = archive.read(f"{root}/data.pkl")

    def stored(key: Any) -> Storage:
        storage = _storage(key)
        if storage.nbytes > lengths[f"{root}/data/{storage.key}"]:
            raise Refused("a tensor is longer than its numbers in the file")
        return storage

    Reader(KNOWN, _other, stored).read(io.BytesIO(content), size)


def _stream(file: BinaryIO, size: int) -> None:
    """The form before torch 1.6: pickles one after the other, then the numbers."""
    if tarfile.is_tarfile(file):  # the form before that, which torch would unpack
        raise Refused("it is an archive of torch 0.1")
    file.seek(0)
    found: dict[str, int] = {}

    def stored(key: Any) -> Storage:
        storage = _storage(key)
        found[storage.key] = storage.nbytes
        return storage

    try:
        magic = Reader({}).read(file, size)
    except (Refused, budget.Excess):
        raise
    except ValueError:  # of pickletools, at the first byte that is no opcode
        magic = None
    if magic != MAGIC:
        raise Refused("it is no file of torch.save")
    for known in ({}, PLAIN, KNOWN):  # the version, the machine, the content
        Reader(known, _other if known is KNOWN else None, stored if known is KNOWN else None).read(file, size)
    if set(Reader({}).read(file, size)) != found.keys() or sum(found.values()) > size:
        raise Refused("its tensors are longer than their numbers in the file")


def _storage(key: Any) -> Storage:
    kind, item, name, _, count = key[:5]
    if kind != "storage" or not isinstance(item, int) or not isinstance(name, str) or not _is_count(count):
        raise Refused("it refers to something that is no tensor's numbers")
    return Storage(name, item, item * count)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> View:
    if not isinstance(storage, Storage):
        raise Refused("it makes a tensor of something that is no numbers")
    return View(extent(offset, shape, strides, storage.item, storage.nbytes))


def extent(offset: Any, shape: Any, strides: Any, item: int, held: int) -> int:
    """Bytes of a tensor that lies like this in a storage of `held` bytes. Raises Refused if it does not."""
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 64 or not all(_is_count(n) and n < 1 << 62 for n in numbers):
        raise Refused("it holds a tensor of an impossible shape")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and (last + 1) * item > held:  # torch would make the storage longer
        raise Refused("a tensor is longer than its numbers in the file")
    return math.prod(shape) * item


def _retyped(make: Any, kind: Any, arguments: Any, state: Any) -> Any:
    if not isinstance(make, Maker) or make.call is _retyped:
        raise Refused("it holds a tensor of an unknown kind")
    return make.call(*arguments)


def _layout(name: Any) -> str:
    if name != "torch.strided":
        raise Refused(f"it holds a tensor of the layout {name}")
    return name


def _other(module: str, name: str) -> Any:
    if module in ("torch", "torch.storage") and name in ITEM_BYTES:
        return ITEM_BYTES[name]
    if module == "torch" and name in TORCH_TYPES:
        return TORCH_TYPES[name]
    raise Refused(f"it refers to {module}.{name}, which is no weight")


KNOWN: dict[tuple[str, str], Any] = {
    **PLAIN,
    ("argparse", "Namespace"): Maker(Options),
    ("collections", "Counter"): Maker(lambda counts=(): dict(counts)),
    ("torch", "Size"): Maker(lambda lengths=(): tuple(lengths)),
    ("torch", "device"): Maker(lambda *name: name),
    ("torch.serialization", "_get_layout"): Maker(_layout),
    ("torch._utils", "_rebuild_tensor"): Maker(_view),
    ("torch._utils", "_rebuild_tensor_v2"): Maker(_view),
    ("torch._utils", "_rebuild_tensor_v3"): Maker(_view),
    ("torch._utils", "_rebuild_parameter"): Maker(lambda data, *_: data),
    ("torch._utils", "_rebuild_parameter_with_state"): Maker(lambda data, *_: data),
    ("torch._tensor", "_rebuild_from_type_v2"): Maker(_retyped),
    ("torch.nn.parameter", "Parameter"): Maker(lambda data, *_: data),
}
"""What a file of weights may name."""


PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_folder(folder: Path) -> int:
    """Looks through the files of a folder of diffusers' form that are no safetensors, before that package reads them;
    returns the bytes of all files of weights.

    Raises:
        ValueError: one line, naming the file, if one holds more than weights or asks for more than its size allows.
    """
    pickled = sorted(path for pattern in PICKLED for path in folder.glob(pattern))
    for path in pickled:
        try:
            with path.open("rb") as file:
                inspect(file)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    for index in sorted(folder.glob("*.index.json")):
        _check_index(index)
    return sum(path.stat().st_size for path in (*pickled, *folder.glob("*.safetensors")))


def _check_index(index: Path) -> None:
    """A list of files may name others than those that were looked through. Raises ValueError if it does."""
    listed = budget.parsed(index.read_bytes(), str(index))
    places = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(places, dict):
        raise ValueError(f"{index} lists no files of weights")
    for name in set(map(str, places.values())):
        looked_through = any(fnmatch.fnmatchcase(name, pattern) for pattern in (*PICKLED, "*.safetensors"))
        if "/" in name or "\\" in name or not looked_through:
            raise ValueError(f"{index} lists {name!r}, which is no file of weights in its folder")
