"""A data set decoded once and kept in memory: the fastest there is while it fits."""

import hashlib
import itertools

import numpy as np
import torch
from torch import Tensor

from realuid.data.builtin import absence, ensure
from realuid.data.dataset import Dataset
from realuid.data.index import ShardIndex, Split
from realuid.data.location import locate
from realuid.data.reader import read_shard
from realuid.errors import DataError
from realuid.keys import key

__all__ = ["InMemory"]


class InMemory(Dataset):
    """All images of one split as uint8 on the device.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL.
        shape: of one image, (C, H, W) with C 1 or 3 and H = W; checked against the data, never adapted to.
        classes: the number of classes, checked against the data; 0 leaves the data's labels unused.
        split: which part of the data set.
    """

    def __init__(self, *, path: str, shape: tuple[int, int, int], classes: int = 0, split: str = "train") -> None:
        self.path = path
        self.shape = shape
        self.classes = classes
        self.split = split

    def missing(self) -> str | None:
        line = absence(self.path)
        if line is None:
            self._fitting(ShardIndex.read(locate(self.path)))
        return line

    def open(self, *, seed: int, device: torch.device) -> None:
        url = ensure(self.path)
        index = ShardIndex.read(url)
        split = self._fitting(index)
        images = np.empty((split.samples, *self.shape), np.uint8)
        labels = np.zeros(split.samples, np.int64)

        # One shard after the other: tar and Pillow hold the interpreter so much that threads only slow each other down.
        samples = itertools.chain.from_iterable(read_shard(url, shard, index) for shard in split.shards)
        for i, sample in enumerate(samples):
            images[i] = sample.image
            labels[i] = sample.label
        counts = np.bincount(labels, minlength=len(index.classes))
        if split.labels is not None and tuple(counts) != split.labels:
            raise DataError(f"{self.path}: the labels of split '{self.split}' are not as often as the index says")
        if self.classes == 0:
            labels[:] = 0
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).to(device)
        self._label_counts = torch.from_numpy(counts[: self.classes])
        self._checksum = hashlib.sha256("".join(shard.sha256 for shard in split.shards).encode()).hexdigest()
        self._seed = seed
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._images)

    @property
    def images(self) -> Tensor:
        return self._images

    @property
    def labels(self) -> Tensor:
        return self._labels

    @property
    def label_counts(self) -> Tensor:
        return self._label_counts

    @property
    def checksum(self) -> str:
        return self._checksum

    def batch(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        pieces = []
        position, stop = start, start + count
        while position < stop:
            epoch, offset = divmod(position, len(self))
            pieces.append(self._order(epoch)[offset : offset + stop - position])
            position += len(pieces[-1])
        chosen = torch.cat(pieces)
        return self._images[chosen], self._labels[chosen]

    def _order(self, epoch: int) -> Tensor:
        """The permutation of one epoch, int64 [N] on the device; the last two are kept, for batches across epochs."""
        if epoch not in self._orders:
            # Drawn on the CPU by numpy's frozen RandomState: the same on every device and under every version.
            random = np.random.RandomState(np.random.Philox(key=key("order", self._seed, epoch)))
            order = torch.from_numpy(random.permutation(len(self))).to(self._images.device)
            self._orders = {**dict(list(self._orders.items())[-1:]), epoch: order}
        return self._orders[epoch]

    def _fitting(self, index: ShardIndex) -> Split:
        """The split, once it is known to be what was declared."""
        held = (index.channels, index.image_size, index.image_size)
        if tuple(self.shape) != held:
            raise DataError(f"InMemory.shape is {tuple(self.shape)}, but '{self.path}' holds images of shape {held}")
        if self.classes not in (0, len(index.classes)):
            raise DataError(f"InMemory.classes is {self.classes}, but '{self.path}' has {len(index.classes)} classes")
        if self.split not in index.splits:
            known = ", ".join(index.splits)
            raise DataError(f"InMemory.split is '{self.split}', but '{self.path}' has the splits {known}")
        return index.splits[self.split]
