"""Shards on this machine: local ones in place, others as checked copies in a folder that concurrent jobs may share."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from realuid.data.shards.fetching import ATTEMPTS, LAYOUT_SUFFIX, NoRoom, Origin, fetch, find, origin_of
from realuid.data.shards.index import Shard
from realuid.data.shards.layout import Layout
from realuid.utils import remote
from realuid.utils.atomic import write_atomically
from realuid.utils.cache_folder import cache_folder
from realuid.utils.errors import DataError
from realuid.utils.locks import locked

__all__ = ["Cache", "LocalShard"]

ABANDONED_S = 24 * 3600.0
LOCKS = 256
SIZE = "size"
"""The file that says how large all copies are together, and the lock on removing some; nested in the others."""
SLACK = 20
"""A full folder of many copies is emptied by so small a part of it more than it must, and not listed at each fetch."""
Got = TypeVar("Got")


@dataclasses.dataclass(frozen=True)
class LocalShard:
    """A plain tar on this machine, and what lies where in it."""

    path: str
    layout: Layout


OWN = re.compile(r".*[0-9a-f]{32}(\.\w+)?\.tmp|[0-9a-f]{32}\.tar")
"""Names of what the cache has written itself, and may remove: a folder may be bound in which more lies."""


class Cache:
    """Checked shards, by content.

    A shard is compared with its index once: length, sha256, names, number of samples. The result is kept as its layout,
    so that other processes and later jobs only look it up. Remote and compressed shards are copied, unpacked, into the
    folder; plain local ones are read where they are. The layout of a shard that is not what the index says is kept in
    memory only: another process looks at the shard again, which may have been mended.

    Whoever fetches a shard holds a lock, a copy appears whole by renaming, and its name comes from the shard's content:
    two sets with equal file names never meet. A copy is trusted while it has the length and the time that it was
    written with. Copies used longest ago are removed when the folder outgrows its limit; a process that has one open
    keeps reading it.

    Args:
        folder: local; None means `cache_folder()`.
        limit: bytes of copies to keep.
    """

    def __init__(self, *, folder: str | None, limit: int) -> None:
        self.folder = Path(folder) if folder else cache_folder()
        self.limit = limit
        self._damaged: dict[str, Layout] = {}
        self._swept_once = False
        self._busy: set[str] = set()
        self._over = False

    def get(self, folder: str, shard: Shard) -> LocalShard:
        """The shard `shard` of the data set in `folder` (any fsspec URL); its layout says what is damaged.

        Raises:
            DataError: it cannot be read at all, or is no shard, or there is no room for it.
        """
        origin = origin_of(folder, shard.file)
        name = self._name(origin, shard)
        for _ in range(ATTEMPTS):
            found = self._known(name, origin)
            if found is None:
                with self._locked(name), self._spared(name):
                    found = self._known(name, origin)  # another process may have been faster
                    if found is None:
                        self._fetch(origin, shard, name)
                        found = self._known(name, origin)
            if found is not None:
                return found
        raise DataError(
            f"{origin.place} is removed from {self.folder} as soon as it is there: is the cache's limit too low?"
        )

    def find(self, folder: str, file: str) -> Shard:
        """What an index would say of a shard that has none: it is fetched and searched.

        Raises:
            DataError: it cannot be read, or does not end as tars do: nobody could tell what is missing.
        """
        origin = origin_of(folder, file)
        with self._locked(_digest("find", origin.place)), self._temporary() as temporary:
            path, shard, layout = self._with_room(0, lambda: find(origin, file, temporary))
            self._keep(origin, self._name(origin, shard), path, layout)
        return shard

    def recall(self, key: str) -> str | None:
        """The text that was kept under `key`; None if there is none, or it is damaged."""
        try:
            return (self.folder / f"{_digest('note', key)}.note").read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def keep(self, key: str, text: str) -> None:
        """Keeps a text for later processes and jobs."""
        with self._writing():
            write_atomically(self.folder / f"{_digest('note', key)}.note", lambda file: file.write_text(text))

    def _name(self, origin: Origin, shard: Shard) -> str:
        """Stands for the content of a shard, or for a local file as it is now: a changed one is checked anew."""
        if not origin.plain:
            return _digest("copy", shard.sha256, shard.samples)
        try:
            state = os.stat(origin.path)
        except OSError as error:
            raise origin.unreadable(error) from error
        place = os.path.abspath(origin.path)
        return _digest("local", place, state.st_size, state.st_mtime_ns, shard.sha256, shard.samples)

    def _known(self, name: str, origin: Origin) -> LocalShard | None:
        """What was fetched before."""
        described, copy = self.folder / f"{name}{LAYOUT_SUFFIX}", self.folder / f"{name}.tar"
        try:
            layout = self._damaged.get(name)
            if layout is None:
                layout = Layout.from_bytes(described.read_bytes())
                if layout.problem:
                    return None  # version 0.1 kept these too
            if origin.plain and not layout.state:
                return LocalShard(origin.path, layout)
            state = copy.stat()
            if layout.state != _state(state):
                return None
            os.utime(copy, ns=(time.time_ns(), state.st_mtime_ns))  # used now
            return LocalShard(str(copy), layout)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _fetch(self, origin: Origin, shard: Shard, name: str) -> None:
        """Copies (unless it is local), checks and describes a shard."""
        with self._temporary() as temporary:
            path, layout = self._with_room(shard.bytes, lambda: fetch(origin, shard, temporary))
            self._keep(origin, name, path, layout)

    def _keep(self, origin: Origin, name: str, path: str, layout: Layout) -> None:
        """Gives a copy its name; its layout appears last, or stays with this process if the shard is damaged."""
        with self._writing():
            if path != origin.path:
                layout = dataclasses.replace(layout, state=_state(os.stat(path)))
                os.replace(path, self.folder / f"{name}.tar")
            if layout.problem:
                self._damaged[name] = layout
            else:
                self._damaged.pop(name, None)
                dest = self.folder / f"{name}{LAYOUT_SUFFIX}"
                write_atomically(dest, lambda file: file.write_bytes(layout.to_bytes()))
        if path != origin.path:
            self._count(int(layout.state.split()[0]))

    @contextlib.contextmanager
    def _spared(self, name: str) -> Iterator[None]:
        """Keeps other threads from removing a copy before it is handed over. The last one to be handed over makes up
        for what could not be removed meanwhile."""
        self._busy.add(f"{name}.tar")
        try:
            yield
        finally:
            if self._over and len(self._busy) == 1:
                self._count(0)
            self._busy.discard(f"{name}.tar")

    def _with_room(self, need: int, write: Callable[[], Got]) -> Got:
        """What `write` returns; on a full disk older copies make room first."""
        try:
            return write()
        except NoRoom:
            with self._locked(SIZE):
                if not self._swept(free=need):
                    raise
            return write()

    def _count(self, grown: int) -> None:
        """Notes a new copy, and removes others if they are too many. The file `size` knows how much there is: to list
        the folder each time takes long where there are thousands."""
        with self._locked(SIZE), self._writing():
            ledger = self.folder / SIZE
            try:
                total = int(ledger.read_text()) + grown
            except (OSError, ValueError):
                total = self.limit + 1
            if total > self.limit or self._over or not self._swept_once:
                self._swept()
            else:
                ledger.write_text(str(total))

    def _swept(self, free: int = 0) -> bool:
        """Removes abandoned pieces, and the copies used longest ago until the rest fits and `free` bytes are free of
        them; whether there were any."""
        copies, removed = [], False
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if OWN.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        state = entry.stat()
                        if entry.name.endswith(".tar"):
                            copies.append((state.st_atime, state.st_size, entry.name))
                        elif time.time() - state.st_mtime > ABANDONED_S:
                            os.unlink(entry.path)
        total = sum(size for _, size, _ in copies)
        goal = min(self.limit, total - free)
        if total > goal and len(copies) > 2 * SLACK:
            goal -= self.limit // SLACK
        for _, size, name in sorted(copies):
            if total <= goal:
                break
            if name not in self._busy:
                (self.folder / name).unlink(missing_ok=True)
                total, removed = total - size, True
        self._swept_once, self._over = True, total > self.limit
        with contextlib.suppress(OSError):  # of a full disk; without it the folder is listed again
            (self.folder / SIZE).write_text(str(total))
        return removed

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        with self._writing():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.folder / f"{uuid.uuid4().hex}.tmp"
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NoRoom(
                f"the cache {self.folder} cannot be used: {remote.reason(error)}. Bind Streaming.cache, or set "
                "REALUID_CACHE, to a folder that can be written to"
            ) from error

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One of a fixed number of locks, so that they do not fill the folder."""
        with self._writing():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = int(hashlib.sha256(name.encode()).hexdigest(), 16) % LOCKS
            file = "size.lock" if name == SIZE else f"{number:02x}.lock"
            lock = os.open(self.folder / file, os.O_RDWR | os.O_CREAT, 0o600)
        with locked(lock):
            yield


def _state(copy: os.stat_result) -> str:
    """Changes when a copy does."""
    return f"{copy.st_size} {copy.st_mtime_ns}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
