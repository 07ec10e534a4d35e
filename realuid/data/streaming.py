"""A data set read from its shards while it is used, for what does not fit into memory."""

from __future__ import annotations

import collections
import hashlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from realuid.data.builtin import absence, ensure
from realuid.data.cache import Cache, LocalShard
from realuid.data.dataset import Batch, Dataset
from realuid.data.declared import fitting
from realuid.data.decode import (
    IMAGE_KINDS,
    DamagedSample,
    Form,
    decode_image,
    decode_label,
    image_kind,
    source_kind,
)
from realuid.data.index import ShardIndex
from realuid.data.layout import IMAGE, LABEL, SOURCE
from realuid.data.listing import Listed, is_pattern, listed
from realuid.data.location import locate
from realuid.data.order import Order
from realuid.errors import DataError

__all__ = ["Streaming"]

FETCHES = 4
"""Shards fetched at once."""


class Streaming(Dataset):
    """Samples read where they lie: in local shards, or in the cache's copies of remote and compressed ones.

    A position of the endless order says which sample of which shard is read, whoever asks. So any number of processes
    can share the work, and a run resumes anywhere. A shard is checked against the index (length, sha256, names, counts)
    when it is first used. To decode in processes of their own put `Prefetched` around this and its wrappers.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL; or tar files,
            by a pattern with `{000..099}`, `{a,b}`, `*`, `?` or `[...]`, with or without an index beside them.
        shape: of one image, (C, H, W) with H = W; checked against the data, never adapted to.
        classes: the number of classes, checked against the data; 0 leaves the data's labels unused.
        split: which part of the data set; patterns have none.
        pairs: whether each sample holds a source image, too, to be read with it.
        shuffle: shards that are mixed with each other, and fetched together; the order of an epoch depends on it.
        cache: local folder for copies; None means `REALUID_CACHE`, and without that one in the temporary directory.
        cache_bytes: how large the copies may grow together before those used longest ago are removed.
        tolerate: damaged samples that may be replaced by the next whole one of the order; one more stops the run. They
            are counted by reason, see `faults`.

    Raises:
        ValueError: images that are not square, `shuffle` or `cache_bytes` is less than one, or `tolerate` negative.
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
    ) -> None:
        if shape[1] != shape[2]:
            raise ValueError(f"Streaming reads square images, not {shape[1]}x{shape[2]}")
        if shuffle < 1 or cache_bytes < 1 or tolerate < 0:
            raise ValueError(
                "Streaming takes shuffle and cache_bytes from 1 and tolerate from 0, "
                f"got {shuffle}, {cache_bytes} and {tolerate}"
            )
        self.path, self.shape, self.classes, self.split = path, shape, classes, split
        self.has_sources, self.shuffle, self.tolerate = pairs, shuffle, tolerate
        self.cache, self.cache_bytes = cache, cache_bytes

    def missing(self) -> str | None:
        if is_pattern(self.path):
            return None
        line = absence(self.path)
        if line is None:
            fitting(self, "Streaming", self.path, ShardIndex.read(locate(self.path)), self.split)
        return line

    def open(self, *, seed: int, device: torch.device) -> None:
        self._cache = Cache(folder=self.cache, limit=self.cache_bytes)
        self._form, self._shards, counted = self._described()
        counts = [entry.shard.samples for entry in self._shards]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._order = Order(seed=seed, counts=counts, window=self.shuffle)
        self._device = device
        self._damaged: dict[str, str] = {}
        self._waited = 0.0
        self._opened: collections.OrderedDict[int, _Open] = collections.OrderedDict()
        self._fetching: dict[int, Future[LocalShard]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._window: list[int] = []
        if counted is None and self.classes:
            counted = self._count_labels()
        self._label_counts = torch.tensor(counted[: self.classes] if counted else [], dtype=torch.int64)

    def _described(self) -> tuple[Form, list[Listed], list[int] | None]:
        """What samples must be, the shards, and the images of each class as far as the index says."""
        if is_pattern(self.path):
            shards = listed(self.path, self._cache)
            form = Form(self.shape[0], self.shape[1], self.classes, self.has_sources)
            if not sum(entry.shard.samples for entry in shards):
                raise DataError(f"'{self.path}' is empty")
            return form, shards, None
        url = ensure(self.path)
        form, split = fitting(self, "Streaming", self.path, ShardIndex.read(url), self.split)
        counted = None if split.labels is None else list(split.labels)
        return form, [Listed(url, shard) for shard in split.shards], counted

    def _count_labels(self) -> list[int]:
        """Images of each class from the shards themselves; known to the cache afterwards."""
        key = repr(("labels", self.checksum, self.classes))
        if (stored := self._cache.recall(key)) is not None:
            return [int(count) for count in stored.split()]
        logger.info("{}: the index does not count its labels; they are read once", self.path)
        counts, whole = np.zeros(self.classes, np.int64), True
        with ThreadPoolExecutor(FETCHES) as pool:
            for labels in pool.map(self._labels, self._shards):
                counts += np.bincount(labels[(labels >= 0) & (labels < self.classes)], minlength=self.classes)
                whole = whole and len(labels) > 0
        if whole:
            self._cache.keep(key, " ".join(str(count) for count in counts))
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
        return int(self._starts[-1])

    @property
    def label_counts(self) -> Tensor:
        return self._label_counts

    @property
    def checksum(self) -> str:
        return hashlib.sha256("".join(entry.shard.sha256 for entry in self._shards).encode()).hexdigest()

    def damaged(self) -> dict[str, str]:
        return self._damaged

    def wait_s(self) -> float:
        waited, self._waited = self._waited, 0.0
        return waited

    def batch(self, start: int, count: int) -> Batch:
        began = time.perf_counter()
        self._read_ahead(start)
        batch = self._gathered(
            self._order.take(start, count), lambda i, step: int(self._order.take(i + step, 1)[0]), start
        )
        self._waited += time.perf_counter() - began
        return batch

    def examples(self, start: int, count: int) -> Batch:
        began = time.perf_counter()
        numbers = np.arange(start, start + count) % len(self)
        batch = self._gathered(numbers, lambda i, step: (i + step) % len(self), start)
        self._waited += time.perf_counter() - began
        return batch

    def _gathered(self, numbers: NDArray[np.int64], instead: Any, start: int) -> Batch:
        """The samples of these numbers; `instead(position, step)` is the number that stands `step` after a position."""
        form = self._form
        images = np.empty((len(numbers), *form.shape), form.dtype)
        sources = np.empty_like(images) if form.pairs else None
        labels = np.zeros(len(numbers), np.int64)
        homes = np.searchsorted(self._starts, numbers, side="right") - 1
        for i, (number, home) in enumerate(zip(numbers.tolist(), homes.tolist(), strict=True)):
            source = None if sources is None else sources[i]
            try:
                labels[i] = self._read(home, number, images[i], source)
            except DamagedSample as error:
                self._note(home, number, error)
                labels[i] = self._replaced(start + i, instead, images[i], source)
        if not self.classes:
            labels[:] = 0
        return Batch(
            self._moved(torch.from_numpy(images)),
            self._moved(torch.from_numpy(labels)),
            None if sources is None else self._moved(torch.from_numpy(sources)),
        )

    def _replaced(self, position: int, instead: Any, image: NDArray[Any], source: NDArray[Any] | None) -> int:
        """Puts the next whole sample in the place of a damaged one, which is counted where it is met itself."""
        for step in range(1, len(self)):
            number = instead(position, step)
            home = int(np.searchsorted(self._starts, number, side="right")) - 1
            try:
                return self._read(home, number, image, source)
            except DamagedSample:
                continue
        raise DataError(f"'{self.path}' holds no sample that can be read")

    def _note(self, home: int, number: int, error: DamagedSample) -> None:
        """Counts a damaged sample, or stops."""
        entry = self._shards[home]
        place = f"{entry.folder}/{entry.shard.file}, sample number {number - int(self._starts[home])}"
        if place not in self._damaged:
            if len(self._damaged) >= self.tolerate:
                limit = f" (one more than tolerate = {self.tolerate})" if self.tolerate else ""
                raise DataError(f"{error}{limit}") from error
            logger.warning("replaced by another sample: {}", error)
            self._damaged[place] = error.reason

    def _read(self, home: int, number: int, image: NDArray[Any], source: NDArray[Any] | None) -> int:
        """Decodes one sample into `image` and `source`; returns its label."""
        return self._open(home).read(number - int(self._starts[home]), image, source)

    def _open(self, home: int) -> _Open:
        opened = self._opened.get(home)
        if opened is None:
            self._forget_fork()
            future = self._fetching.pop(home, None)
            entry = self._shards[home]
            local = future.result() if future else self._cache.get(entry.folder, entry.shard)
            try:
                opened = _Open(f"{entry.folder}/{entry.shard.file}", local, self._form, self.tolerate)
            except FileNotFoundError:  # removed by another job since it was fetched
                local = self._cache.get(entry.folder, entry.shard)
                opened = _Open(f"{entry.folder}/{entry.shard.file}", local, self._form, self.tolerate)
            self._opened[home] = opened
            while len(self._opened) > 2 * self.shuffle + 2:
                self._opened.popitem(last=False)[1].close()
        else:
            self._opened.move_to_end(home)
        return opened

    def _read_ahead(self, position: int) -> None:
        """Fetches the shards of this window and the next in the background, once."""
        windows = self._order.windows(position, 2)
        if windows[0] == self._window:
            return
        self._forget_fork()
        self._window = windows[0]
        self._pool = self._pool or ThreadPoolExecutor(FETCHES, thread_name_prefix="shards")
        wanted = dict.fromkeys(windows[0] + windows[1])
        self._fetching = {home: future for home, future in self._fetching.items() if home in wanted}
        for home in wanted:
            if home not in self._opened and home not in self._fetching:
                entry = self._shards[home]
                self._fetching[home] = self._pool.submit(self._cache.get, entry.folder, entry.shard)

    def _forget_fork(self) -> None:
        """Threads do not survive a fork: what they were to fetch is fetched when it is needed."""
        if self.__dict__.setdefault("_pid", os.getpid()) != os.getpid():
            self._pid = os.getpid()
            self._pool, self._fetching, self._window = None, {}, []

    def _moved(self, part: Tensor) -> Tensor:
        if self._device.type == "cuda":
            part = part.pin_memory()
        return part.to(self._device, non_blocking=True)

    def __getstate__(self) -> dict[str, Any]:
        """As constructed: another process opens it anew."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


class _Open:
    """A shard that is being read."""

    def __init__(self, place: str, local: LocalShard, form: Form, tolerate: int) -> None:
        self._place, self._form, self._layout = place, form, local.layout
        layout = self._layout
        damaged = layout.places[:, IMAGE, 1] < 0
        if form.pairs:
            damaged = damaged | (layout.places[:, SOURCE, 1] < 0)
        if form.classes:
            damaged = damaged | (layout.labels < 0) | (layout.labels >= form.classes)
        damaged[list(layout.faults)] = True
        self._damaged = set(np.flatnonzero(damaged).tolist())
        self._file = os.open(local.path, os.O_RDONLY)
        if tolerate == 0:  # at once, and not when the first of them is met
            try:
                # Wrong names and a cut are reasons why others are not whole: they are the better ones to tell.
                reasons = {number: reason for number, (reason, _) in layout.faults.items()}
                first = [number for reason in ("name", "cut") for number in reasons if reasons[number] == reason]
                for number in first or sorted(self._damaged):
                    self._complain(number)
                if layout.problem:
                    raise DataError(layout.problem)
            except BaseException:
                self.close()
                raise
        elif layout.problem:
            logger.warning(layout.problem)

    def read(self, number: int, image: NDArray[Any], source: NDArray[Any] | None) -> int:
        """Decodes sample `number` into the arrays; returns its label."""
        if number in self._damaged:
            self._complain(number)
        places, kinds = self._layout.places[number].tolist(), self._layout.kinds[number].tolist()
        where = f"{self._place}, sample {self._layout.keys[number]}"
        image[...] = decode_image(where, IMAGE_KINDS[kinds[IMAGE]], self._bytes(places[IMAGE]), self._form)
        if source is not None:
            source[...] = decode_image(where, IMAGE_KINDS[kinds[SOURCE]], self._bytes(places[SOURCE]), self._form)
        return int(self._layout.labels[number])

    def close(self) -> None:
        os.close(self._file)

    def _bytes(self, place: list[int]) -> bytes:
        return os.pread(self._file, place[1], place[0])

    def _complain(self, number: int) -> None:
        """Raises what is wrong with a sample."""
        layout, where = self._layout, f"{self._place}, sample {self._layout.keys[number]}"
        if number in layout.faults:
            reason, text = layout.faults[number]
            raise DamagedSample(text, reason)
        place = layout.places[number].tolist()
        if place[IMAGE][1] < 0:
            image_kind(where, ())
        if self._form.pairs and place[SOURCE][1] < 0:
            source_kind(where, ())
        decode_label(where, self._bytes(place[LABEL]) if place[LABEL][1] >= 0 else None, self._form.classes)
        raise DamagedSample(f"{where}: its label is not {layout.labels[number]}", "label")
