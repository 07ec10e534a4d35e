"""Writing one shard: the same samples give the same bytes, and it appears whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from realuid.data.shards.fetching import LAYOUT_SUFFIX
from realuid.data.shards.index import Shard
from realuid.data.shards.layout import scan
from realuid.data.shards.location import open_folder, reaching
from realuid.utils.errors import DataError
from realuid.utils.remote import reason

__all__ = ["TEMPORARY", "put_bytes", "write_shard"]

TEMPORARY = ".tmp"
"""Ending of files that are not complete."""


class _Tally:
    """A binary stream that counts and hashes the bytes written through it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._hash, self.bytes = stream, hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, block: bytes) -> int:
        self._hash.update(block)
        self.bytes += len(block)
        self._stream.write(block)
        return len(block)


def write_shard(dest: str, file: str, samples: Iterable[dict[str, Any]]) -> Shard:
    """Puts one shard, and beside it the places of its samples, into `dest`; each appears whole.

    Args:
        dest: a folder that is there, or any fsspec URL.
        file: name of the shard.
        samples: members by kind, with the key as `__key__`; what they raise ends the writing, and nothing appears.

    Raises:
        DataError: it cannot be written.
    """
    from webdataset import TarWriter  # imported where needed: it is slow

    fs, root = open_folder(dest)
    with _workplace(fs, root) as folder:
        path = folder / f"{uuid.uuid4().hex}{TEMPORARY}"
        try:
            with open(path, "wb") as stream:
                tally = _Tally(stream)
                with TarWriter(tally, encoder=False, mtime=0, user="realuid", group="realuid") as tar:
                    for members in samples:
                        tar.write(members)
            layout = scan(f"{dest}/{file}", str(path))
            places = layout.to_bytes()
            with reaching(f"{dest}/{file}", "written"):
                if isinstance(fs, LocalFileSystem):
                    os.replace(path, f"{root}/{file}")
                else:
                    fs.put_file(str(path), f"{root}/{file}")
            put_bytes(dest, f"{file}{LAYOUT_SUFFIX}", places)
        except OSError as error:
            raise DataError(f"{dest}/{file} cannot be written: {reason(error)}") from error
        finally:
            path.unlink(missing_ok=True)
    return Shard(
        file=file,
        samples=len(layout),
        bytes=tally.bytes,
        sha256=tally.sha256,
        layout_sha256=hashlib.sha256(places).hexdigest(),
    )


def put_bytes(dest: str, file: str, content: bytes) -> None:
    """Puts a file into `dest` under a name that appears when all of it is there (object stores do that anyway).

    Raises:
        DataError: it cannot be written.
    """
    fs, root = open_folder(dest)
    local = isinstance(fs, LocalFileSystem)
    place = f"{root}/{uuid.uuid4().hex}{TEMPORARY}" if local else f"{root}/{file}"
    with reaching(f"{dest}/{file}", "written"):
        try:
            fs.pipe_file(place, content)
            if local:
                os.replace(place, f"{root}/{file}")
        finally:
            if local:
                Path(place).unlink(missing_ok=True)


@contextmanager
def _workplace(fs: Any, root: str) -> Iterator[Path]:
    """Where a shard grows: beside its place, or on this machine if that is far."""
    if isinstance(fs, LocalFileSystem):
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="realuid-") as folder:
        yield Path(folder)
