"""Some samples of a source, as a source."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from realuid.data.sources.base import Raw, Source

__all__ = ["Part"]


class Part(Source):
    """Some samples of another source, with the same classes and fields.

    Args:
        whole: the other source.
        numbers: of the samples in it, int64 [n].
    """

    def __init__(self, whole: Source, numbers: NDArray[np.int64]) -> None:
        self.whole, self.numbers = whole, numbers
        self.classes, self.grey, self.has_images, self.pairs = (
            whole.classes,
            whole.grey,
            whole.has_images,
            whole.pairs,
        )
        self.mixed, self.conditions, self.encoder, self.notes = (
            whole.mixed,
            whole.conditions,
            whole.encoder,
            whole.notes,
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, number: int) -> Raw:
        return self.whole.read(int(self.numbers[number]))

    def fingerprint(self) -> str:
        return hashlib.sha256(self.whole.fingerprint().encode() + self.numbers.tobytes()).hexdigest()
