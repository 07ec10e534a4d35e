"""A data set read from its shards while it is used, for what does not fit into memory."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from realuid.conditions import LABEL, Condition, Field
from realuid.conditions.caption import Caption
from realuid.conditions.text import TextEncoder
from realuid.data.dataset import FAR, Batch
from realuid.data.order import Order
from realuid.data.shard_set import ShardSet
from realuid.data.shards.cache import Cache
from realuid.data.shards.decode import DamagedSample, Form, Sample
from realuid.data.shards.listing import Listed, absence, is_pattern, listed
from realuid.data.shards.pool import FETCHES, ShardPool
from realuid.data.shards.reader import read_captions
from realuid.data.shards.stored import Stored
from realuid.utils.errors import DataError

__all__ = ["Streaming"]

At = Callable[[int], int]
"""The number of the sample that stands at a position."""


class Streaming(ShardSet):
    """Samples read where they lie: in local shards, or in the cache's copies of remote and compressed ones.

    A position of the endless order says which sample of which shard is read, whoever asks. So any number of processes
    can share the work, and a run resumes anywhere. A shard is checked against the index (length, sha256, names, counts)
    when it is first used. To decode in processes of their own put `Prefetched` around this and its wrappers.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL; or tar files,
            by a pattern with `{000..099}`, `{a,b}`, `*`, `?` or `[...]`, with or without an index beside them.
        shape: of one image, (C, H, W); checked against the data, never adapted to.
        classes: the number of classes, checked against the data; 0 leaves the data's labels unused.
        split: which part of the data set; patterns have none.
        pairs: whether each sample holds a source image, too, to be read with it.
        shuffle: shards that are mixed with each other, and fetched together; the order of an epoch depends on it.
        cache: local folder for copies; None means `REALUID_CACHE`, and without that `~/.cache/realuid`.
        cache_bytes: how large the copies may grow together before those used longest ago are removed.
        tolerate: damaged samples that may be replaced by the next whole one of the order; one more stops the run. They
            are counted by reason, see `faults`.
        encoder: made the set's text embeddings; its fields are read. None leaves them unread.
        conditions: further fields of the samples' conditions to be read, checked against the data.

    Raises:
        ValueError: if `shuffle` or `cache_bytes` is less than one, or `tolerate` negative.
    """

    free_on_resume = frozenset({"cache", "cache_bytes", "tolerate"})

    def __init__(
        self,
        *,
        path: str,
        shape: tuple[int, int, int],
        classes: int = 0,
        split: str = "train",
        pairs: bool = False,
        shuffle: int = 8,
        cache: str | None = None,
        cache_bytes: int = 50_000_000_000,
        tolerate: int = 0,
        encoder: TextEncoder | None = None,
        conditions: Sequence[Field] = (),
    ) -> None:
        if shuffle < 1 or cache_bytes < 1 or tolerate < 0:
            raise ValueError(
                "Streaming takes shuffle and cache_bytes from 1 and tolerate from 0, "
                f"got {shuffle}, {cache_bytes} and {tolerate}"
            )
        super().__init__(
            path=path,
            shape=shape,
            classes=classes,
            split=split,
            pairs=pairs,
            encoder=encoder,
            conditions=conditions,
        )
        self.shuffle, self.tolerate = shuffle, tolerate
        self.cache, self.cache_bytes = cache, cache_bytes
        self.opened: str | None = None  # the checksum of the shards that a pattern named when they were opened

    def made_by(self) -> Mapping[str, str]:
        return {} if is_pattern(self.path) else super().made_by()

    def stated_checksum(self) -> str | None:
        """Of a pattern's shards what they say themselves; those that are not known yet are fetched and searched."""
        if not is_pattern(self.path):
            return super().stated_checksum()
        return self.opened or _checksum(listed(self.path, Cache(folder=self.cache, limit=self.cache_bytes)))

    def missing(self) -> str | None:
        return absence(self.path) if is_pattern(self.path) else super().missing()

    def open(self, *, seed: int, device: torch.device) -> None:
        self._cache = Cache(folder=self.cache, limit=self.cache_bytes)
        self._form, self._shards, counted = self._listed()
        self.opened = _checksum(self._shards) if is_pattern(self.path) else None
        counts = [entry.shard.samples for entry in self._shards]
        self._starts = [0, *itertools.accumulate(counts)]
        self._order = Order(seed=seed, counts=counts, window=self.shuffle)
        self._pool = ShardPool(
            self._shards, self._cache, self._form, most=2 * self.shuffle + 2, tolerate=self.tolerate > 0
        )
        self._device = device
        self._damaged: dict[str, str] = {}
        self._waited = 0.0
        if counted is None and self.classes:
            counted = self._count_labels()
        self._label_counts = torch.tensor(counted[: self.classes] if counted else [], dtype=torch.int64)

    def _listed(self) -> tuple[Form, list[Listed], list[int] | None]:
        """What samples must be, the shards, and the images of each class as far as the index says."""
        if is_pattern(self.path):
            shards = listed(self.path, self._cache)
            told = tuple(f for f in self.fields if f.name != LABEL and not isinstance(f, Caption))
            form = Form(self.shape, self.classes, self.has_sources, conditions=told, caption=self._caption)
            if not sum(entry.shard.samples for entry in shards):
                raise DataError(f"'{self.path}' is empty")
            return form, shards, None
        described = self._described()
        counted = None if described.split.labels is None else list(described.split.labels)
        return described.form, [Listed(described.url, shard) for shard in described.split.shards], counted

    def _count_labels(self) -> list[int]:
        """Images of each class from the shards themselves; known to the cache afterwards."""
        kept = repr(("labels", self.checksum, self.classes))
        counted = (self._cache.recall(kept) or "").split()
        if len(counted) == self.classes and all(count.isdecimal() for count in counted):  # else it is damaged
            return [int(count) for count in counted]
        logger.info("{}: the index does not count its labels; they are read once", self.path)
        counts, whole = np.zeros(self.classes, np.int64), True
        with ThreadPoolExecutor(FETCHES) as pool:
            for labels in pool.map(self._labels, self._shards):
                counts += np.bincount(labels[(labels >= 0) & (labels < self.classes)], minlength=self.classes)
                whole = whole and len(labels) > 0
        if whole:
            self._cache.keep(kept, " ".join(str(count) for count in counts))
        return [int(count) for count in counts]

    def _labels(self, entry: Listed) -> NDArray[np.int64]:
        """The labels of a shard; none of one that cannot be read where that is tolerated until it is used."""
        try:
            return self._cache.get(entry.folder, entry.shard).layout.labels
        except DamagedSample:
            if not self.tolerate:
                raise
            return np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def label_counts(self) -> Tensor:
        return self._label_counts

    @property
    def checksum(self) -> str:
        return _checksum(self._shards)

    def captions(self, count: int) -> list[str] | None:
        return read_captions(((entry.folder, entry.shard) for entry in self._shards), count)

    def damaged(self) -> dict[str, str]:
        return self._damaged

    def wait_s(self) -> float:
        waited, self._waited = self._waited, 0.0
        return waited

    def batch(self, start: int, count: int) -> Batch:
        with self._timed():
            self._pool.fetch_ahead(*self._order.windows(start, 2))
            return self._batch(self._rows(self._order.take(start, count), self._in_order, start, self._form))

    def examples(self, start: int, count: int) -> Batch:
        with self._timed():
            return self._batch(self._rows(self._stored_at(start, count), self._in_storage, start, self._form))

    def condition_batch(self, start: int, count: int) -> Condition:
        with self._timed():
            numbers = self._order.take(FAR + start, count)
            return self._condition(self._rows(numbers, self._in_order, FAR + start, self._without_images))

    def condition_examples(self, start: int, count: int) -> Condition:
        with self._timed():
            numbers = self._stored_at(start, count)
            return self._condition(self._rows(numbers, self._in_storage, start, self._without_images))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - began

    def _in_order(self, position: int) -> int:
        return int(self._order.take(position, 1)[0])

    def _in_storage(self, position: int) -> int:
        return position % len(self)

    def _stored_at(self, start: int, count: int) -> NDArray[np.int64]:
        return np.arange(start, start + count) % len(self)

    @property
    def _without_images(self) -> Form:
        return dataclasses.replace(self._form, shape=None, pairs=False)

    def _batch(self, rows: Stored) -> Batch:
        assert rows.images is not None
        sources = None if rows.sources is None else torch.from_numpy(rows.sources)
        return Batch(torch.from_numpy(rows.images), rows.condition(self.classes), sources).to(self._device)

    def _condition(self, rows: Stored) -> Condition:
        return rows.condition(self.classes).to(self._device)

    def _rows(self, numbers: NDArray[np.int64], at: At, start: int, form: Form) -> Stored:
        """The samples `numbers`, which stand at `start` and the positions after it, as far as `form` names their
        parts."""
        rows = Stored.empty(form, len(numbers))
        for i, number in enumerate(numbers.tolist()):
            try:
                sample = self._read(number, form)
            except DamagedSample as error:
                self._note(number, error)
                sample = self._replacement(start + i, at, form)
            rows.put(i, sample)
        return rows

    def _replacement(self, position: int, at: At, form: Form) -> Sample:
        """The next whole sample after a damaged one; others in between are counted where they are met themselves."""
        for step in range(1, len(self)):
            try:
                return self._read(at(position + step), form)
            except DamagedSample:
                continue
        raise DataError(f"'{self.path}' holds no sample that can be read")

    def _read(self, number: int, form: Form) -> Sample:
        home = self._home(number)
        return self._pool.read(home, number - self._starts[home], form)

    def _home(self, number: int) -> int:
        """The shard that holds a sample."""
        return bisect.bisect_right(self._starts, number) - 1

    def _note(self, number: int, error: DamagedSample) -> None:
        """Counts a damaged sample, or stops."""
        home = self._home(number)
        entry = self._shards[home]
        place = f"{entry.folder}/{entry.shard.file}, sample number {number - self._starts[home]}"
        if place not in self._damaged:
            if len(self._damaged) >= self.tolerate:
                limit = f" (one more than tolerate = {self.tolerate})" if self.tolerate else ""
                raise DataError(f"{error}{limit}") from error
            logger.warning("replaced by another sample: {}", error)
            self._damaged[place] = error.reason

    def __getstate__(self) -> dict[str, Any]:
        """As constructed: another process opens it anew."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def _checksum(shards: Sequence[Listed]) -> str:
    return hashlib.sha256("".join(entry.shard.sha256 for entry in shards).encode()).hexdigest()
