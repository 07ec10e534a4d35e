"""The shards that are being read, and those that are fetched ahead of their use."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from realuid.data.shards.cache import Cache, LocalShard
from realuid.data.shards.decode import Form, Sample
from realuid.data.shards.fetching import ATTEMPTS
from realuid.data.shards.listing import Listed
from realuid.data.shards.reader import OpenShard
from realuid.utils.errors import DataError

__all__ = ["FETCHES", "ShardPool"]

FETCHES = 4
"""Shards fetched at once."""


class ShardPool:
    """Shards by number, opened as they are needed.

    Args:
        shards: all of them.
        cache: fetches them.
        form: what their samples must be.
        most: shards to be kept open.
        tolerate: whether damaged samples are complained of when they are read, and not when their shard is opened.
    """

    def __init__(self, shards: Sequence[Listed], cache: Cache, form: Form, *, most: int, tolerate: bool) -> None:
        self._shards, self._cache, self._form, self._most, self._tolerate = shards, cache, form, most, tolerate
        self._opened: collections.OrderedDict[int, OpenShard] = collections.OrderedDict()
        self._fetching: dict[int, Future[LocalShard]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._wanted: list[int] = []
        self._process = os.getpid()

    def read(self, shard: int, number: int, form: Form) -> Sample:
        """Decodes sample `number` of a shard, as far as `form` names its parts.

        Raises:
            DamagedSample: it is damaged, or its shard cannot be opened.
            DataError: the shard is damaged, and that is not tolerated.
        """
        return self._open(shard).read(number, form)

    def fetch_ahead(self, wanted: Sequence[int], then: Iterable[int]) -> None:
        """Fetches these shards in the background, and those that are needed `then`; once while `wanted` is the same."""
        if list(wanted) == self._wanted:
            return
        self._forget_fork()
        self._wanted = list(wanted)
        self._threads = self._threads or ThreadPoolExecutor(FETCHES, thread_name_prefix="shards")
        soon = dict.fromkeys([*wanted, *then])
        self._fetching = {shard: future for shard, future in self._fetching.items() if shard in soon}
        for shard in soon:
            if shard not in self._opened and shard not in self._fetching:
                entry = self._shards[shard]
                self._fetching[shard] = self._threads.submit(self._cache.get, entry.folder, entry.shard)

    def _open(self, shard: int) -> OpenShard:
        opened = self._opened.get(shard)
        if opened is not None:
            self._opened.move_to_end(shard)
            return opened
        self._forget_fork()
        future = self._fetching.pop(shard, None)
        entry = self._shards[shard]
        place = f"{entry.folder}/{entry.shard.file}"
        for _ in range(ATTEMPTS):
            local = future.result() if future else self._cache.get(entry.folder, entry.shard)
            try:
                opened = OpenShard(place, local.path, local.layout, self._form, tolerate=self._tolerate)
            except FileNotFoundError:  # removed for another shard since it was fetched
                future = None
                continue
            self._opened[shard] = opened
            while len(self._opened) > self._most:
                self._opened.popitem(last=False)[1].close()
            return opened
        raise DataError(
            f"{place} is removed from the cache as soon as it is there: bind a larger Streaming.cache_bytes"
        )

    def _forget_fork(self) -> None:
        """Threads do not survive a fork: what they were to fetch is fetched when it is needed."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._threads, self._fetching, self._wanted = None, {}, []
