"""The folder of a checkpoint that many processes write together: torch's distributed checkpoints (DCP) over fsspec.

Tensors are cut up as the processes hold them and are read back by any other number of processes, or by one. What is not
a tensor is in a file of its own, so that no pickle of DCP's is needed but its table of contents, which is read by an
unpickler that knows the few classes of such a table and no others.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import metadata as contents
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo, _StoragePrefix
from torch.distributed.tensor import DTensor, distribute_tensor

from realuid.checkpoints import files
from realuid.errors import CheckpointError

REST = "rest.pt"
"""The file of everything that is no tensor, and where tensors belong in it."""
TENSOR = "\0tensor"


def split(state: Any, place: str = "") -> tuple[dict[str, Tensor], Any]:
    """The tensors of a nested state by their place, and the state with their places instead."""
    if isinstance(state, Tensor):
        return {place: state.detach()}, {TENSOR: place}
    tensors: dict[str, Tensor] = {}
    if isinstance(state, dict):
        rest: Any = {}
        for key, value in state.items():
            inside, rest[key] = split(value, f"{place}/{key}")
            tensors |= inside
        return tensors, rest
    if isinstance(state, list | tuple):
        pairs = [split(value, f"{place}/{number}") for number, value in enumerate(state)]
        return {k: v for inside, _ in pairs for k, v in inside.items()}, type(state)(rest for _, rest in pairs)
    return tensors, state


def joined(rest: Any, tensors: dict[str, Tensor]) -> Any:
    """The state that `split` took apart."""
    if isinstance(rest, dict):
        if rest.keys() == {TENSOR}:
            return tensors[rest[TENSOR]]
        return {key: joined(value, tensors) for key, value in rest.items()}
    if isinstance(rest, list | tuple):
        return type(rest)(joined(value, tensors) for value in rest)
    return rest


def places(rest: Any) -> Iterator[str]:
    """Where the tensors of a state belong."""
    if isinstance(rest, dict):
        if rest.keys() == {TENSOR}:
            yield rest[TENSOR]
            return
        rest = list(rest.values())
    if isinstance(rest, list | tuple):
        for value in rest:
            yield from places(value)


def save(path: str, tensors: dict[str, Tensor], group: dist.ProcessGroup | None) -> None:
    """Writes this process's part of the tensors; all processes of the group must do so."""
    with _plain_errors():
        dcp.save(tensors, storage_writer=FsspecWriter(path, overwrite=True), process_group=group, no_dist=group is None)


def load(path: str, template: dict[str, Any] | None = None) -> dict[str, Any]:
    """Reads a state.

    Args:
        path: of the folder.
        template: a state of the same form. Its tensors, which may be sharded otherwise than they were when they were
            saved, are overwritten, and all processes must take part; None for whole tensors on the CPU of this one.

    Raises:
        CheckpointError: if the folder holds other tensors than the template.
    """
    rest = files.load(f"{path}/{REST}")
    reader = _Reader(path)
    if template is None:
        table = reader.read_metadata().state_dict_metadata
        tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in table.items()}  # type: ignore[union-attr]
    else:
        tensors, _ = split(template)
        if different := sorted(tensors.keys() ^ set(places(rest))):
            raise CheckpointError(f"{path} does not fit this run: {different[0]} is on one side only")
    with _plain_errors():
        dcp.load(tensors, storage_reader=reader, no_dist=template is None)
    return joined(rest, tensors)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """DCP's own exception is none that `except Exception` would catch."""
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise CheckpointError(f"process {rank}: {reason}") from None


def laid_out(state: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    """A state of whole tensors, sharded as those of the template are; every process takes its own part."""
    tensors, rest = split(state)
    shards, _ = split(template)
    for place, value in tensors.items():
        if isinstance(like := shards.get(place), DTensor):
            mesh, placements = like.device_mesh, like.placements
            tensors[place] = distribute_tensor(value.to(like.device), mesh, placements, src_data_rank=None)
    return joined(rest, tensors)


_ALLOWED = {
    **{
        (contents.__name__, name): getattr(contents, name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    },
    **{(kind.__module__, kind.__name__): kind for kind in (_StorageInfo, _StoragePrefix, torch.Size)},
    ("torch.serialization", "_get_layout"): lambda name: getattr(torch, str(name).removeprefix("torch.")),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and isinstance(kind := getattr(torch, name, None), (torch.dtype, torch.layout)):
            return kind
        raise pickle.UnpicklingError(f"its table of contents refers to {module}.{name}")


class _Reader(FsspecReader):
    """DCP's reader, with a harmless unpickler for the table of contents."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> contents.Metadata:
        with self.fs.create_stream(self.fs.concat_path(self.path, ".metadata"), "rb") as file:
            table = _Unpickler(file).load()
        if not isinstance(table, contents.Metadata):
            raise CheckpointError(f"{self.path} has no table of contents")
        if table.storage_meta is None:
            table.storage_meta = contents.StorageMeta()
        table.storage_meta.load_id = self.load_id
        return table
