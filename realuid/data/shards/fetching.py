"""A shard of any place as a plain tar on this machine: copied, unpacked, compared with what the index says."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem
from loguru import logger

from realuid.data.shards.decode import DamagedSample
from realuid.data.shards.index import Shard
from realuid.data.shards.layout import Layout, scan
from realuid.data.shards.location import open_folder
from realuid.data.shards.repair import described
from realuid.data.shards.tars import SparseMembers, expand, nature
from realuid.utils import archives, budget, remote
from realuid.utils.checksums import PIECE, sha256_of
from realuid.utils.errors import DataError

__all__ = ["ATTEMPTS", "LAYOUT_SUFFIX", "NoRoom", "Origin", "fetch", "find", "origin_of"]

LAYOUT_SUFFIX = ".layout"
ATTEMPTS = 3
FINAL = ("FileNotFoundError", "PermissionError", *remote.CREDENTIALS)
"""Errors that trying again does not mend."""


class NoRoom(DataError):
    """The disk that copies are written to is full, or refuses them; one line."""


class Origin(NamedTuple):
    """Where a shard lies: file system, path in it, and what complaints call it."""

    fs: Any
    path: str
    place: str

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def plain(self) -> bool:
        """Whether it may be read where it is."""
        return self.local and not _compressed(self.path)

    def unreadable(self, error: BaseException) -> DamagedSample:
        """What is to be raised if it cannot be read."""
        return DamagedSample(f"{self.place} is in the index but cannot be opened: {remote.reason(error)}", "unreadable")


class _Copied(NamedTuple):
    """A plain tar, and of what it was made from length, sha256 and where unpacking broke off."""

    path: str
    bytes: int
    sha256: str
    broken: str | None = None


def origin_of(folder: str, file: str) -> Origin:
    """The shard `file` of the data set in `folder` (any fsspec URL)."""
    fs, root = open_folder(folder)
    return Origin(fs, f"{root}/{file}", f"{folder}/{file}")


def _compressed(file: str) -> bool:
    """Whether a file is to be unpacked, by its name; a web address may have a query behind it."""
    return file.lower().partition("?")[0].endswith((".gz", ".tgz"))


def fetch(origin: Origin, shard: Shard, temporary: Path) -> tuple[str, Layout]:
    """The shard as a plain tar, which is the original itself or `temporary`, and its layout with all that is damaged.

    What arrives otherwise than the index says is fetched once more: only if it is the same again, it is the shard that
    is wrong, and not the transfer.

    Raises:
        DamagedSample: it cannot be read at all.
        DataError: it holds more samples than the index says.
        NoRoom: see there.
    """
    copied = _copied(origin, temporary)
    if not origin.local:
        for _ in range(ATTEMPTS - 1):
            if copied.sha256 == shard.sha256:
                break
            logger.warning("{}: what arrived is not the shard in the index; fetching it again", origin.place)
            before, copied = copied, _copied(origin, temporary)
            if copied.sha256 == before.sha256:
                break
    stored = _stored_layout(origin, shard)
    try:
        return copied.path, described(origin.place, *_told(copied, shard), stored)
    except SparseMembers:
        copied = _expanded(origin.place, copied, temporary)
        return copied.path, described(origin.place, *_told(copied, shard), stored)


def find(origin: Origin, file: str, temporary: Path) -> tuple[str, Shard, Layout]:
    """As `fetch`, of a shard that no index knows, and what an index would say of it.

    Raises:
        DataError: it does not end as tars do: nobody could tell what is missing.
    """
    copied, layout = _searched(origin, temporary)
    for _ in range(ATTEMPTS - 1):
        if origin.local or (layout.ended and not copied.broken):
            break
        before, (copied, layout) = copied, _searched(origin, temporary)
        if copied.sha256 == before.sha256:
            break
    if copied.broken or not layout.ended:
        told = "" if len(layout) else nature(copied.path)
        reason = copied.broken or (f"it is {told}" if told else "there is no end of a tar")
        raise DataError(f"{origin.place} breaks off after {len(layout)} samples ({reason})")
    shard = Shard(file=file, samples=len(layout), bytes=copied.bytes, sha256=copied.sha256)
    return copied.path, shard, layout


def _searched(origin: Origin, temporary: Path) -> tuple[_Copied, Layout]:
    copied = _copied(origin, temporary)
    try:
        return copied, scan(origin.place, copied.path)
    except SparseMembers:
        copied = _expanded(origin.place, copied, temporary)
        return copied, scan(origin.place, copied.path)


def _told(copied: _Copied, shard: Shard) -> tuple[str, Shard, int, str, str | None]:
    return copied.path, shard, copied.bytes, copied.sha256, copied.broken


def _expanded(place: str, copied: _Copied, temporary: Path) -> _Copied:
    """With the holes of its sparse members filled."""
    logger.info("{}: members with holes (tar -S) are written out", place)
    dest = temporary.with_suffix(".expanded.tmp")
    try:
        expand(copied.path, dest)
        os.replace(dest, temporary)
    except ValueError as error:
        raise DataError(f"{place} has sparse members: {error}") from None
    except OSError as error:
        raise _no_room(dest, error) from error
    finally:
        dest.unlink(missing_ok=True)
    return copied._replace(path=str(temporary))


def _copied(origin: Origin, dest: Path) -> _Copied:
    """Copies and unpacks into `dest` what cannot be read where it is."""
    raw = dest.with_suffix(".raw.tmp")
    try:
        if not origin.local:
            _downloaded(origin, raw)
        try:
            with open(origin.path if origin.local else raw, "rb") as file:
                sha256, length = sha256_of(file), file.tell()
        except OSError as error:
            raise origin.unreadable(error) from error
        if origin.plain:
            return _Copied(origin.path, length, sha256)
        if _compressed(origin.path):
            packed = origin.path if origin.local else str(raw)
            return _Copied(str(dest), length, sha256, _unpacked(origin.place, packed, dest))
        os.replace(raw, dest)
        return _Copied(str(dest), length, sha256)
    finally:
        raw.unlink(missing_ok=True)


def _downloaded(origin: Origin, dest: Path) -> None:
    for attempt in range(ATTEMPTS):
        try:
            origin.fs.get_file(origin.path, str(dest))
            return
        except Exception as error:  # file systems raise kinds of their own
            if isinstance(error, OSError) and (error.errno in remote.FULL or error.filename == str(dest)):
                raise _no_room(dest, error) from error
            names = {cls.__name__ for cls in type(error).__mro__}
            final = not names.isdisjoint(FINAL) or remote.status_of(error) in (401, 403, 404)
            if final or attempt == ATTEMPTS - 1:
                raise origin.unreadable(error) from error
            logger.warning("{}: {}; trying again", origin.place, remote.reason(error))
            time.sleep(0.2 * 4**attempt)


def _unpacked(place: str, packed: str, dest: Path) -> str | None:
    """Unpacks gzip as far as it goes; returns why it went no further."""
    try:
        with open(packed, "rb") as file, open(dest, "wb") as out:
            stream = archives.gunzipped(file)
            while True:
                try:
                    piece = stream.read(PIECE)
                except budget.Excess as error:
                    raise DataError(f"{place}: {error}") from None
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    return str(error)
                if not piece:
                    return None
                out.write(piece)
    except OSError as error:
        raise _no_room(dest, error) from error


def _no_room(dest: Path, error: OSError) -> NoRoom:
    return NoRoom(
        f"no copy of a shard can be written to {dest.parent}: {remote.reason(error)}. Bind Streaming.cache, or set "
        "REALUID_CACHE, to a folder with more room, or bind a smaller Streaming.cache_bytes"
    )


def _stored_layout(origin: Origin, shard: Shard) -> Layout | None:
    """The layout that lies beside the shard, if the index vouches for one and it is that one."""
    if not shard.layout_sha256:
        return None
    name = f"{origin.place}{LAYOUT_SUFFIX}"
    try:
        data = origin.fs.cat_file(f"{origin.path}{LAYOUT_SUFFIX}")
        if hashlib.sha256(data).hexdigest() != shard.layout_sha256:
            raise ValueError("it is not the one in the index")
        return Layout.from_bytes(data)
    except Exception as error:
        logger.warning("{} cannot be read ({}): the shard is searched instead", name, remote.reason(error))
        return None
