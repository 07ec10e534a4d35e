"""Data sets decoded once and kept in memory: the fastest there are while they fit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from realuid.conditions import Condition, Field
from realuid.conditions.text import TextEncoder
from realuid.data.dataset import FAR, Batch
from realuid.data.order import Order
from realuid.data.shard_set import ShardSet
from realuid.data.shards.reader import read_captions
from realuid.data.shards.stored import Stored, read_split
from realuid.utils.errors import DataError

__all__ = ["InMemory", "Prompts"]


class _Whole(ShardSet):
    """A split that is read whole, in an order over all of its samples."""

    only: tuple[int, ...] | None = None

    def open(self, *, seed: int, device: torch.device) -> None:
        described = self._described()
        stored = read_split(described.url, self.path, described.index, self.split, described.form)
        if self.only is not None:
            rows = np.isin(stored.labels, self.only)
            if not rows.any():
                raise DataError(f"{self.path}: no image of split '{self.split}' has a label of {self.only}")
            stored = stored.chosen(rows, f"only {self.only}")
        counts = np.bincount(stored.labels, minlength=described.form.classes)
        self._label_counts = torch.from_numpy(counts[: self.classes])
        self._checksum, self._count = stored.checksum, len(stored)
        self._shards = [(described.url, shard) for shard in described.split.shards]
        self._device, self._held = device, _room(device, stored.nbytes)
        self._condition = stored.condition(self.classes).to(self._held)
        self._order = Order(seed=seed, counts=[len(stored)], window=1)
        self._hold(stored)

    @abstractmethod
    def _hold(self, stored: Stored) -> None:
        """Keeps the rest of what was read."""

    def __len__(self) -> int:
        return self._count

    @property
    def label_counts(self) -> Tensor:
        return self._label_counts

    @property
    def checksum(self) -> str:
        return self._checksum

    def condition_batch(self, start: int, count: int) -> Condition:
        return self._condition.take(self._rows(FAR + start, count)).to(self._device)

    def condition_examples(self, start: int, count: int) -> Condition:
        return self._condition.repeated(start, count).to(self._device)

    def captions(self, count: int) -> list[str] | None:
        return None if self.only else read_captions(self._shards, count)

    def _rows(self, start: int, count: int) -> Tensor:
        """The samples at `start` to `start + count` of the endless order."""
        return torch.from_numpy(self._order.take(start, count)).to(self._held)


class InMemory(_Whole):
    """All images of one split as they are stored, on the device if they fill less than half of its free memory.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL.
        shape: of one image, (C, H, W); checked against the data, never adapted to.
        classes: the number of classes, checked against the data; 0 leaves the data's labels unused.
        split: which part of the data set.
        pairs: whether each sample holds a source image, too, to be read with it.
        only: labels whose images are kept, for a set that lacks classes; None for all. The number of classes stays.
        encoder: made the set's text embeddings; its fields are read. None leaves them unread.
        conditions: further fields of the samples' conditions to be read, checked against the data.

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
        encoder: TextEncoder | None = None,
        conditions: Sequence[Field] = (),
    ) -> None:
        if only is not None and (not only or (classes and not all(0 <= label < classes for label in only))):
            raise ValueError(f"only must name labels from 0 to {classes - 1}, got {tuple(only)}")
        super().__init__(
            path=path,
            shape=shape,
            classes=classes,
            split=split,
            pairs=pairs,
            encoder=encoder,
            conditions=conditions,
        )
        self.only = None if only is None else tuple(sorted(set(only)))

    def _hold(self, stored: Stored) -> None:
        assert stored.images is not None
        sources = None if stored.sources is None else torch.from_numpy(stored.sources).to(self._held)
        self._samples = Batch(torch.from_numpy(stored.images).to(self._held), self._condition, sources)

    def batch(self, start: int, count: int) -> Batch:
        return self._samples.take(self._rows(start, count)).to(self._device)

    def examples(self, start: int, count: int) -> Batch:
        rows = torch.arange(start, start + count, device=self._held) % len(self)
        return self._samples.take(rows).to(self._device)


class Prompts(_Whole):
    """The conditions of a split without its images, for distillations that use no real images, or use others'.

    Shards with images serve as well; their images are not read.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL.
        shape: of the images to be generated, (C, H, W).
        classes: the number of classes, checked against the data; 0 leaves the data's labels unused.
        split: which part of the data set.
        encoder: made the set's text embeddings; its fields are read.
        conditions: further fields to be read, checked against the data.

    Raises:
        ValueError: if there is nothing to be read: no classes, encoder or conditions.
    """

    has_images = False

    def __init__(
        self,
        *,
        path: str,
        shape: tuple[int, int, int],
        classes: int = 0,
        split: str = "train",
        encoder: TextEncoder | None = None,
        conditions: Sequence[Field] = (),
    ) -> None:
        super().__init__(
            path=path, shape=shape, classes=classes, split=split, pairs=False, encoder=encoder, conditions=conditions
        )
        if not self.fields:
            raise ValueError("Prompts reads conditions alone: bind an encoder, conditions or classes")

    def _hold(self, stored: Stored) -> None:
        """Nothing but the conditions."""

    def batch(self, start: int, count: int) -> Batch:
        raise DataError(f"'{self.path}' gives conditions without images: bind Trainer.data to a set that has images")

    def examples(self, start: int, count: int) -> Batch:
        return self.batch(start, count)


def _room(device: torch.device, size: int) -> torch.device:
    """Where to keep `size` bytes that are to be used on `device`."""
    if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
        return torch.device("cpu")
    return device
