"""One `torch.save` file, written atomically, read without pickle's powers."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import fsspec
import torch

from realuid.utils import remote, torch_files
from realuid.utils.errors import CheckpointError

FORMAT = 1

PART = ".part"
"""Ending of a file that is not complete."""


class Written(NamedTuple):
    """What was written: to be found again like that, or not at all."""

    bytes: int
    sha256: str


def save(path: str, state: dict[str, Any]) -> Written:
    """Writes `state` (tensors, numbers, text, lists and dicts of them) to any fsspec URL: it is there whole, or not."""
    fs, target = fsspec.core.url_to_fs(path)
    part = f"{target}{PART}"
    try:
        with fs.open(part, "wb") as file:
            counted = _Counted(file)
            torch.save({"format": FORMAT, **state}, counted)  # type: ignore[arg-type]  # all it needs is `write`
        fs.mv(part, target)
    except BaseException:
        if fs.exists(part):
            fs.rm(part)
        raise
    return Written(counted.bytes, counted.digest.hexdigest())


class _Counted:
    """A file being written whose length and checksum are known when it ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.bytes, self.digest = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def load(path: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a file of tensors and plain containers: nothing in it is executed.

    Raises:
        CheckpointError: one line, if it is missing, damaged, or holds no weights.
    """
    with readable(path), fsspec.open(path, "rb") as file:
        state = torch_files.read(file, device)
        if not isinstance(state, dict):
            raise CheckpointError(f"{path} is no checkpoint: it holds a {type(state).__name__}, and no weights by name")
        return state


def check(path: str) -> None:
    """Compares the checksums that a file of `torch.save` carries itself, unless it is of the old form without any;
    `torch.load` does not look at them.

    Raises:
        CheckpointError: one line, if the file is missing or damaged.
    """
    with readable(path), fsspec.open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
        torch_files.inspect(file)
        with zipfile.ZipFile(file) as archive:
            if (damaged := archive.testzip()) is not None:
                raise CheckpointError(f"{path} is damaged: {damaged} is not what was written")


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Makes one line of whatever goes wrong while a checkpoint is read."""
    try:
        yield
    except FileNotFoundError as error:
        if remote.is_missing(error):
            raise CheckpointError(f"there is no checkpoint {path}") from None
        raise CheckpointError(f"cannot read {path}: {remote.reason(error)}") from None
    except ImportError as error:  # a file system whose driver is not installed
        raise CheckpointError(f"cannot read {path}: {error}") from None
    except CheckpointError:
        raise
    except Exception as error:  # damage, and the errors that every kind of storage has of its own
        raise CheckpointError(f"{path} is not a readable checkpoint: {remote.reason(error)}") from None
