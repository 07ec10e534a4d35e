"""Shards on this machine: local ones in place, others as checked copies in a folder that concurrent jobs may share."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import os
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from loguru import logger

from realuid.data.decode import DamagedSample
from realuid.data.index import Shard
from realuid.data.layout import Layout, scan
from realuid.data.location import open_folder
from realuid.errors import DataError

__all__ = ["LAYOUT_SUFFIX", "Cache", "LocalShard", "compressed"]

LAYOUT_SUFFIX = ".layout"
ATTEMPTS = 3
PIECE = 1 << 20
ABANDONED_S = 24 * 3600.0


def compressed(file: str) -> bool:
    return file.lower().endswith((".gz", ".tgz"))


@dataclasses.dataclass(frozen=True)
class LocalShard:
    """A plain tar on this machine, and what lies where in it."""

    path: str
    layout: Layout


class Cache:
    """Checked shards, by content.

    A shard is compared with its index once: length, sha256, names, number of samples. The result is kept as its layout,
    so that other processes and later jobs only look it up. Remote and compressed shards are copied, unpacked, into the
    folder; plain local ones are read where they are.

    Whoever fetches a shard holds a lock, a copy appears whole by renaming, and its name comes from the shard's content:
    two sets with equal file names never meet. Copies used longest ago are removed when the folder outgrows its limit; a
    process that has one open keeps reading it.

    Args:
        folder: local; None means `REALUID_CACHE`, and without that a folder of the user's in the temporary directory.
        limit: bytes of copies to keep.
    """

    def __init__(self, *, folder: str | None, limit: int) -> None:
        self.folder = Path(
            folder
            or os.environ.get("REALUID_CACHE")
            or os.path.join(tempfile.gettempdir(), f"realuid-cache-{os.getuid()}")
        )
        self.limit = limit

    def get(self, folder: str, shard: Shard) -> LocalShard:
        """The shard `shard` of the data set in `folder` (any fsspec URL); its layout says what is damaged.

        Raises:
            DataError: it cannot be read at all, or is no shard.
        """
        fs, root = open_folder(folder)
        source = f"{root}/{shard.file}"
        place = f"{folder}/{shard.file}"
        local = isinstance(fs, LocalFileSystem) and not compressed(shard.file)
        name = self._name(source, place, shard) if local else _copy_name(shard)
        layout, copy = self.folder / f"{name}{LAYOUT_SUFFIX}", self.folder / f"{name}.tar"
        path = Path(source) if local else copy
        for _ in range(ATTEMPTS):
            found = _known(path, layout, None if local else (fs, source))
            if found is None:
                with self._locked(name):
                    found = _known(path, layout, None)  # another process may have been faster
                    if found is None or found.layout.problem:
                        self._fetch(fs, source, place, shard, path, layout, local)
                        found = _known(path, layout, None)
            if found is not None:
                return found
        raise DataError(f"{place} is removed from {self.folder} as soon as it is there: is the cache's limit too low?")

    def find(self, folder: str, file: str) -> Shard:
        """What an index would say of a shard that has none: it is fetched and searched.

        Raises:
            DataError: it cannot be read, or does not end as tars do: nobody could tell what is missing.
        """
        fs, root = open_folder(folder)
        source, place = f"{root}/{file}", f"{folder}/{file}"
        local = isinstance(fs, LocalFileSystem) and not compressed(file)
        temporary = self.folder / f"found.{uuid.uuid4().hex}.tmp"
        with self._locked(_digest("find", place)):
            try:
                if local:
                    length, sha256 = _hashed(place, source)
                    broken, plain = None, source
                else:
                    length, sha256, broken = _copied(fs, source, place, temporary)
                    plain = str(temporary)
                layout = scan(place, plain)
                if broken or not layout.ended:
                    raise DataError(f"{place} breaks off after {len(layout)} samples ({broken or 'no end of a tar'})")
                shard = Shard(file=file, samples=len(layout), bytes=length, sha256=sha256)
                name = self._name(source, place, shard) if local else _copy_name(shard)
                if not local:
                    os.replace(temporary, self.folder / f"{name}.tar")
                _write(self.folder / f"{name}{LAYOUT_SUFFIX}", layout)
            finally:
                temporary.unlink(missing_ok=True)
        return shard

    def recall(self, key: str) -> str | None:
        """The text that was kept under `key`."""
        try:
            return (self.folder / f"{_digest('note', key)}.note").read_text()
        except OSError:
            return None

    def keep(self, key: str, text: str) -> None:
        """Keeps a text for later processes and jobs."""
        name = _digest("note", key)
        with self._locked(name):
            temporary = self.folder / f"{name}.{uuid.uuid4().hex}.tmp"
            temporary.write_text(text)
            os.replace(temporary, self.folder / f"{name}.note")

    def _name(self, source: str, place: str, shard: Shard) -> str:
        """Stands for a local file as it is now: a changed one is checked anew."""
        try:
            state = os.stat(source)
        except OSError as error:
            raise _unreadable(place, error) from error
        return _digest("local", os.path.abspath(source), state.st_size, state.st_mtime_ns, shard.sha256, shard.samples)

    def _fetch(self, fs: Any, source: str, place: str, shard: Shard, path: Path, layout: Path, local: bool) -> None:
        """Copies (unless it is local), checks and describes a shard; its layout appears last."""
        temporary = self.folder / f"{path.stem if not local else layout.name}.{uuid.uuid4().hex}.tmp"
        try:
            if local:
                length, sha256 = _hashed(place, source)
                broken, plain = None, source
            else:
                length, sha256, broken = _copied(fs, source, place, temporary)
                plain = str(temporary)
            state = "" if local else _state(fs, source)
            description = _described(place, plain, shard, length, sha256, broken, _stored_layout(fs, source, shard))
            description.state = state
            if not local:
                os.replace(temporary, path)
            _write(layout, description)
        finally:
            temporary.unlink(missing_ok=True)
        if not local:
            self._shrink(keep=path)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError(f"the cache {self.folder} cannot be used: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the system if the process dies
            yield
        finally:
            os.close(lock)

    def _shrink(self, keep: Path) -> None:
        """Removes the copies used longest ago until the rest fits."""
        with self._locked("shrink"):
            copies = []
            for file in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    state = file.stat()
                    if file.suffix == ".tar":
                        copies.append((state.st_mtime, state.st_size, file))
                    elif file.suffix == ".tmp" and time.time() - state.st_mtime > ABANDONED_S:
                        file.unlink(missing_ok=True)
            total = sum(size for _, size, _ in copies)
            for _, size, file in sorted(copies):
                if total <= self.limit:
                    break
                if file != keep:
                    file.unlink(missing_ok=True)
                    total -= size


def _copy_name(shard: Shard) -> str:
    return _digest("copy", shard.sha256, shard.samples)


def _known(path: Path, layout: Path, source: tuple[Any, str] | None) -> LocalShard | None:
    """What was fetched before; not if it had a problem and the source has changed since."""
    try:
        found = LocalShard(str(path), Layout.from_bytes(layout.read_bytes()))
        if found.layout.problem and source is not None and found.layout.state != _state(*source):
            return None
        if path.suffix == ".tar" and path.parent == layout.parent:
            os.utime(path)  # used now; fails if it was removed
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(fs: Any, source: str) -> str:
    """What the file system tells without reading a file; changes with it."""
    try:
        return str(fs.ukey(source))
    except Exception:
        return uuid.uuid4().hex  # never the same: looked at again


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _unreadable(place: str, error: BaseException) -> DamagedSample:
    return DamagedSample(f"{place} is in the index but cannot be opened: {error}", "unreadable")


def _hashed(place: str, path: str) -> tuple[int, str]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _sha256(file)
            return file.tell(), digest.hexdigest()
    except OSError as error:
        raise _unreadable(place, error) from error


def _sha256(file: Any) -> Any:
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest


def _copied(fs: Any, source: str, place: str, dest: Path) -> tuple[int, str, str | None]:
    """Copies and unpacks; returns length and sha256 of what was read, and where unpacking broke off."""
    raw = dest.with_suffix(".raw.tmp")
    try:
        if isinstance(fs, LocalFileSystem):
            raw.symlink_to(os.path.abspath(source))
        else:
            _downloaded(fs, source, place, raw)
        length, sha256 = _hashed(place, str(raw))
        if compressed(source):
            return length, sha256, _unpacked(raw, dest)
        os.replace(raw, dest)
        return length, sha256, None
    finally:
        raw.unlink(missing_ok=True)


def _downloaded(fs: Any, source: str, place: str, dest: Path) -> None:
    for attempt in range(ATTEMPTS):
        try:
            fs.get_file(source, str(dest))
            return
        except FileNotFoundError as error:
            raise _unreadable(place, error) from error
        except Exception as error:  # file systems raise kinds of their own
            if attempt == ATTEMPTS - 1:
                raise _unreadable(place, error) from error
            logger.warning("{}: {}; trying again", place, error)
            time.sleep(0.2 * 4**attempt)


def _unpacked(raw: Path, dest: Path) -> str | None:
    """Unpacks gzip as far as it goes; returns why it went no further."""
    with gzip.open(raw, "rb") as packed, dest.open("wb") as out:
        try:
            while piece := packed.read(PIECE):
                out.write(piece)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return str(error)
    return None


def _stored_layout(fs: Any, source: str, shard: Shard) -> Layout | None:
    """The layout that lies beside the shard, if the index vouches for one and it is that one."""
    if not shard.layout_sha256:
        return None
    try:
        data = fs.cat_file(f"{source}{LAYOUT_SUFFIX}")
    except Exception as error:
        logger.warning("{}{} cannot be read ({}): the shard is searched instead", source, LAYOUT_SUFFIX, error)
        return None
    if hashlib.sha256(data).hexdigest() != shard.layout_sha256:
        logger.warning("{}{} is not the one in the index: the shard is searched instead", source, LAYOUT_SUFFIX)
        return None
    return Layout.from_bytes(data)


def _described(
    place: str, path: str, shard: Shard, length: int, sha256: str, broken: str | None, stored: Layout | None
) -> Layout:
    """The layout of a shard, with everything in it that is not as the index says."""
    intact = not shard.sha256 or (length, sha256) == (shard.bytes, shard.sha256)
    if intact and stored is not None:
        return stored
    if stored is not None and os.path.getsize(path) == shard.bytes:
        layout = _compared(place, path, stored)
    else:
        layout = scan(place, path)
        if stored is not None:
            layout = _matched(place, layout, stored)
    if shard.samples >= 0:
        layout = _counted(place, layout, shard.samples, broken)
    if not intact:
        layout.problem = (
            f"{place} has {length} bytes and sha256 {sha256[:12]}, "
            f"the index says {shard.bytes} and {shard.sha256[:12]}: the shard was changed or cut"
        )
    return layout


def _compared(place: str, path: str, stored: Layout) -> Layout:
    """The stored layout, with the samples whose bytes were changed."""
    faults = {}
    with open(path, "rb") as file:
        for number, members in enumerate(stored.places.tolist()):
            crc = 0
            for offset, size in members[:2]:
                if size >= 0:
                    crc = zlib.crc32(os.pread(file.fileno(), size, offset), crc)
            if crc != stored.crcs[number]:
                faults[number] = _changed(place, stored, number)
    return dataclasses.replace(stored, faults=stored.faults | faults)


def _matched(place: str, found: Layout, stored: Layout) -> Layout:
    """What was found in a shard of another length, numbered as it was stored."""
    numbers = {str(key): number for number, key in enumerate(found.keys)}
    rows = np.array([numbers.get(str(key), -1) for key in stored.keys], np.int64)
    faults: dict[int, tuple[str, str]] = {}
    for number, row in enumerate(rows.tolist()):
        if row < 0:
            faults[number] = "cut", f"{place}, sample {stored.keys[number]}: it is not there: is the shard cut short?"
        elif row in found.faults:
            faults[number] = found.faults[row]
        elif found.crcs[row] != stored.crcs[number]:
            faults[number] = _changed(place, stored, number)
    arrays = {name: getattr(found, name)[rows] for name in ("places", "kinds", "labels", "crcs")}
    return Layout(keys=stored.keys, faults=faults, **arrays)


def _changed(place: str, stored: Layout, number: int) -> tuple[str, str]:
    return "changed", f"{place}, sample {stored.keys[number]}: its bytes are not those that were written"


def _counted(place: str, layout: Layout, samples: int, broken: str | None) -> Layout:
    """The layout brought to the number of samples that the index says."""
    found = len(layout)
    if found > samples:
        for reason, text in layout.faults.values():
            if reason == "name":  # it may be why there are more
                raise DataError(text)
        raise DataError(f"{place}, sample {layout.keys[samples]}: the index counts only {samples} samples")
    if found < samples:
        how = f" ({broken})" if broken else ""
        text = f"{place} holds {found} samples, the index says {samples}: is it cut short?{how}"
        lost = samples - found
        layout = Layout(
            keys=np.concatenate([layout.keys, np.array([f"number {found + i}" for i in range(lost)])]),
            places=np.concatenate([layout.places, np.full((lost, *layout.places.shape[1:]), -1)]),
            kinds=np.concatenate([layout.kinds, np.full((lost, 2), -1, np.int8)]),
            labels=np.concatenate([layout.labels, np.full(lost, -1)]),
            crcs=np.concatenate([layout.crcs, np.zeros(lost, np.int64)]),
            faults=layout.faults | {found + i: ("cut", text) for i in range(lost)},
        )
    return layout


def _write(path: Path, layout: Layout) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(layout.to_bytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
