"""The folder of a checkpoint that many processes write together: torch's distributed checkpoints (DCP) over fsspec.

Tensors are cut up as the processes hold them and are read back by any other number of processes, or by one. What is not
a tensor is in a file of its own, so that no pickle of DCP's is needed but its table of contents (`table.py`).

Importing DCP takes more than a second, so this module is imported by the functions that use it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import metadata as contents
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.tensor import DTensor, distribute_tensor

from realuid.checkpoints import files, table
from realuid.checkpoints.nested import REST, joined, places, split
from realuid.utils import torch_files
from realuid.utils.errors import CheckpointError
from realuid.utils.old_files import place_of_today, with_keys_of_today


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
    found = reader.read_metadata().state_dict_metadata  # first: what is wrong with it is said once, and not by DCP
    if template is None:
        tensors = {
            name: torch.zeros(entry.size, dtype=entry.properties.dtype)
            for name, entry in found.items()
            if isinstance(entry, contents.TensorStorageMetadata)
        }
    else:
        asked, _ = split(template)
        stored = {place_of_today(place): place for place in places(rest)}
        if different := sorted(asked.keys() ^ stored.keys()):
            raise CheckpointError(f"{path} does not fit this run: {different[0]} is on one side only")
        tensors = {place: asked[now] for now, place in stored.items()}
    with _plain_errors():
        dcp.load(tensors, storage_reader=reader, planner=_TensorsOnly(), no_dist=template is None)
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
    tensors, rest = split(with_keys_of_today(state))
    shards, _ = split(template)
    for place, value in tensors.items():
        if isinstance(like := shards.get(place), DTensor):
            mesh, placements = like.device_mesh, like.placements
            tensors[place] = distribute_tensor(value.to(like.device), mesh, placements, src_data_rank=None)
    return joined(rest, tensors)


class _TensorsOnly(DefaultLoadPlanner):
    """DCP's planner, which would unpickle entries that are no tensors."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        raise CheckpointError(f"{read_item.dest_index.fqn} is no tensor")


class _Reader(FsspecReader):
    """DCP's reader, which sees neither a table of contents nor a tensor before it has been looked through."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> contents.Metadata:
        fs, root = fsspec.core.url_to_fs(str(self.path))
        size = sum(int(entry["size"] or 0) for entry in fs.ls(root, detail=True))
        with fs.open(f"{root}/.metadata", "rb") as file:
            found = table.read(file, size)
        assert found.storage_meta is not None
        found.storage_meta.load_id = self.load_id
        return found

    def _slice_file(self, file: IO[bytes], sinfo: _StorageInfo) -> IO[bytes]:
        content = io.BytesIO(super()._slice_file(file, sinfo).read(sinfo.length))
        torch_files.inspect(content)
        return content
