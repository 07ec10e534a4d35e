"""A data set decoded once and kept in memory: the fastest there is while it fits."""

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from realuid.data.builtin import absence, ensure
from realuid.data.dataset import Batch, Dataset
from realuid.data.declared import fitting
from realuid.data.index import ShardIndex
from realuid.data.location import locate
from realuid.data.order import Order
from realuid.data.reader import read_shard
from realuid.errors import DataError

__all__ = ["InMemory"]


class InMemory(Dataset):
    """All images of one split as they are stored, on the device if they fill less than half of its free memory.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL.
        shape: of one image, (C, H, W) with H = W; checked against the data, never adapted to.
        classes: the number of classes, checked against the data; 0 leaves the data's labels unused.
        split: which part of the data set.
        pairs: whether each sample holds a source image, too, to be read with it.
        only: labels whose images are kept, for a set that lacks classes; None for all. The number of classes stays.

    Raises:
        ValueError: if `only` names no label, or one that there is not.
    """

    def __init__(
        self,
        *,
        path: str,
        shape: tuple[int, int, int],
        classes: int = 0,
        split: str = "train",
        pairs: bool = False,
        only: Sequence[int] | None = None,
    ) -> None:
        if only is not None and (not only or (classes and not all(0 <= label < classes for label in only))):
            raise ValueError(f"only must name labels from 0 to {classes - 1}, got {tuple(only)}")
        self.path = path
        self.shape = shape
        self.classes = classes
        self.split = split
        self.has_sources = pairs
        self.only = None if only is None else tuple(sorted(set(only)))

    def missing(self) -> str | None:
        line = absence(self.path)
        if line is None:
            fitting(self, "InMemory", self.path, ShardIndex.read(locate(self.path)), self.split)
        return line

    def open(self, *, seed: int, device: torch.device) -> None:
        url = ensure(self.path)
        index = ShardIndex.read(url)
        form, split = fitting(self, "InMemory", self.path, index, self.split)
        images = np.empty((split.samples, *form.shape), form.dtype)
        sources = np.empty_like(images) if self.has_sources else None
        labels = np.zeros(split.samples, np.int64)

        # One shard after the other: tar and Pillow hold the interpreter so much that threads only slow each other down.
        samples = itertools.chain.from_iterable(read_shard(url, shard, form) for shard in split.shards)
        for i, sample in enumerate(samples):
            images[i] = sample.image
            labels[i] = sample.label
            if sources is not None:
                sources[i] = sample.source
        counts = np.bincount(labels, minlength=len(index.classes))
        if split.labels is not None and tuple(counts) != split.labels:
            raise DataError(f"{self.path}: the labels of split '{self.split}' are not as often as the index says")
        if self.only is not None:
            rows = np.isin(labels, self.only)
            if not rows.any():
                raise DataError(f"{self.path}: no image of split '{self.split}' has a label of {self.only}")
            images, labels, sources = images[rows], labels[rows], None if sources is None else sources[rows]
            counts = np.bincount(labels, minlength=len(index.classes))
        if self.classes == 0:
            labels[:] = 0
        self._device = device
        held = _room(device, images.nbytes + (0 if sources is None else sources.nbytes))
        self._images = torch.from_numpy(images).to(held)
        self._labels = torch.from_numpy(labels).to(held)
        self._sources = None if sources is None else torch.from_numpy(sources).to(held)
        self._label_counts = torch.from_numpy(counts[: self.classes])
        content = "".join(shard.sha256 for shard in split.shards) + (f" only {self.only}" if self.only else "")
        self._checksum = hashlib.sha256(content.encode()).hexdigest()
        self._order = Order(seed=seed, counts=[len(images)], window=1)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def label_counts(self) -> Tensor:
        return self._label_counts

    @property
    def checksum(self) -> str:
        return self._checksum

    def batch(self, start: int, count: int) -> Batch:
        return self._chosen(torch.from_numpy(self._order.take(start, count)))

    def examples(self, start: int, count: int) -> Batch:
        return self._chosen(torch.arange(start, start + count) % len(self))

    def _chosen(self, rows: Tensor) -> Batch:
        rows = rows.to(self._images.device)
        return Batch(
            self._moved(self._images[rows]),
            self._moved(self._labels[rows]),
            None if self._sources is None else self._moved(self._sources[rows]),
        )

    def _moved(self, part: Tensor) -> Tensor:
        if part.device == self._device:
            return part
        if self._device.type == "cuda":
            part = part.pin_memory()
        return part.to(self._device, non_blocking=True)


def _room(device: torch.device, size: int) -> torch.device:
    """Where to keep `size` bytes that are to be used on `device`."""
    if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
        return torch.device("cpu")
    return device
