"""The table of contents of a folder that torch's distributed checkpoints (DCP) wrote: `.metadata`, a pickle.

torch unpickles it as it is. Here it is read without running it and compared with the files that it speaks of.
"""

from __future__ import annotations

import math
import re
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint import metadata as contents
from torch.distributed.checkpoint.filesystem import _StorageInfo

from realuid.utils.pickles import PLAIN, Maker, Reader, Refused
from realuid.utils.restorable import Restorable
from realuid.utils.torch_types import TORCH_TYPES

PARTS = re.compile(r"\w+\.distcp")
"""What the files of tensors are called."""


class Record(Restorable):
    """An object of the table: its class's name and its state."""

    kind = ""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = arguments

    def restore(self, state: Any) -> None:
        self.state = state

    def __getitem__(self, name: str) -> Any:
        return self.state[name]


def read(file: BinaryIO, size: int) -> contents.Metadata:
    """The table.

    Args:
        file: `.metadata`, opened for reading bytes.
        size: of all files of the folder together, in bytes.

    Raises:
        ValueError: one line, if it is damaged, speaks of anything but tensors, or of more than there is.
    """
    try:
        table = Reader(KNOWN, _other).read(file, size)
        if not isinstance(table, Record) or table.kind != "Metadata":
            raise Refused("it is no table of contents")
        tensors = {name: _tensor(name, entry) for name, entry in table["state_dict_metadata"].items()}
        places = dict(_place(index, place) for index, place in table["storage_data"].items())
        _compared(tensors, places, size)
    except (KeyError, IndexError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(f"its table of contents is damaged: {type(error).__name__} {error}") from None
    planned = table["planner_data"]  # names and the way to each of them, for states that are nested; ours are flat
    return contents.Metadata({**tensors}, planned if isinstance(planned, dict) else {}, places, contents.StorageMeta())


def _tensor(name: Any, entry: Any) -> contents.TensorStorageMetadata:
    if not isinstance(name, str) or not isinstance(entry, Record) or entry.kind != "TensorStorageMetadata":
        raise Refused(f"it has an entry {name} that is no tensor: it was not written by this project, and is not read")
    dtype = entry["properties"].state[0]
    if not isinstance(dtype, torch.dtype):
        raise Refused(f"{name} has no type")
    chunks = [contents.ChunkStorageMetadata(_lengths(c["offsets"]), _lengths(c["sizes"])) for c in entry["chunks"]]
    return contents.TensorStorageMetadata(contents.TensorProperties(dtype), _lengths(entry["size"]), chunks)


def _lengths(numbers: Any) -> torch.Size:
    if not isinstance(numbers, tuple) or not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in numbers):
        raise Refused("it has a tensor of an impossible shape")
    return torch.Size(numbers)


def _place(index: Any, place: Any) -> tuple[contents.MetadataIndex, _StorageInfo]:
    path, start, length = (place[name] for name in ("relative_path", "offset", "length"))
    if not PARTS.fullmatch(path):
        raise Refused(f"it names a file outside its folder: {path}")
    if place.state.get("transform_descriptors"):
        raise Refused("it is packed in a way that this project does not use")
    if not all(isinstance(number, int) and number >= 0 for number in (start, length)):
        raise Refused("it has a tensor in an impossible place")
    offset = index["offset"]
    key = contents.MetadataIndex(index["fqn"], None if offset is None else _lengths(offset), index["index"])
    return key, _StorageInfo(path, start, length)


def _compared(
    tensors: dict[str, contents.TensorStorageMetadata],
    places: dict[contents.MetadataIndex, _StorageInfo],
    size: int,
) -> None:
    """Every tensor is as large as its parts, and every part no larger than its bytes."""
    if sum(place.length for place in places.values()) > size:
        raise Refused("its parts are longer than its files")
    for name, entry in tensors.items():
        for chunk in entry.chunks:
            ends = zip(chunk.offsets, chunk.sizes, entry.size, strict=True)
            if any(offset + length > whole for offset, length, whole in ends):
                raise Refused(f"a part of {name} lies outside it")
            place = places.get(contents.MetadataIndex(name, chunk.offsets))
            if place is None or math.prod(chunk.sizes) * entry.properties.dtype.itemsize > place.length:
                raise Refused(f"{name} is larger than its bytes")
        if sum(math.prod(chunk.sizes) for chunk in entry.chunks) != math.prod(entry.size):
            raise Refused(f"{name} is not the sum of its parts")


def _other(module: str, name: str) -> Any:
    if (module == contents.__name__ and name in RECORDS) or (module, name) in STORAGE:
        return Maker(type(name, (Record,), {"kind": name}))
    if module == "torch" and name in TORCH_TYPES:
        return TORCH_TYPES[name]
    raise Refused(f"its table of contents refers to {module}.{name}")


RECORDS = {
    "BytesStorageMetadata",  # to be refused by its name
    "ChunkStorageMetadata",
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "TensorStorageMetadata",
    "_MEM_FORMAT_ENCODING",
}
STORAGE = {("torch.distributed.checkpoint.filesystem", name) for name in ("_StorageInfo", "_StoragePrefix")}
KNOWN = {
    **PLAIN,
    ("torch", "Size"): Maker(lambda lengths=(): tuple(lengths)),
    ("torch.serialization", "_get_layout"): Maker(lambda name: str(name)),
}
