"""Data that are wrong on purpose: what a teacher learns that is to be wrong in a known way."""

from __future__ import annotations

import hashlib

from realuid.data.dataset import Batch, Dataset, Wrapped
from realuid.data.degradations import Degradation, degraded

__all__ = ["Corrupted"]


class Corrupted(Wrapped):
    """Each image replaced by its degraded self; labels stay. `Degraded` pairs the two instead.

    Args:
        data: the images; sources, if there are any, stay as they are.
        degradation: what is done to them, for instance `JPEGDegradation`.
    """

    def __init__(self, *, data: Dataset, degradation: Degradation) -> None:
        super().__init__(data)
        self.degradation = degradation

    @property
    def checksum(self) -> str:
        settings = sorted(vars(self.degradation).items())
        name = f"{self.data.checksum} {type(self.degradation).__name__} {settings}"
        return hashlib.sha256(name.encode()).hexdigest()

    def batch(self, start: int, count: int) -> Batch:
        return self._corrupted(self.data.batch(start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._corrupted(self.data.examples(start, count))

    def _corrupted(self, batch: Batch) -> Batch:
        return batch._replace(images=degraded("Corrupted", self.degradation, batch.images))
