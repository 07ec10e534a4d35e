"""Images that are arrays already."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from realuid.data.sources.base import Raw, Source

__all__ = ["Arrays"]


class Arrays(Source):
    """Images that are in memory or mapped from a file: uint8 [N, C, H, W], with labels [N].

    Args:
        name: what complaints call them.
        parts: images and labels.
        classes: names of the labels; empty to leave them out.
    """

    def __init__(self, name: str, parts: list[tuple[Any, Any]], classes: tuple[str, ...]) -> None:
        self.name, self.parts, self.classes = name, parts, classes
        self.grey = parts[0][0].shape[1] == 1
        self._starts = np.concatenate([[0], np.cumsum([len(images) for images, _ in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, number: int) -> Raw:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        images, labels = self.parts[part]
        row = number - int(self._starts[part])
        return Raw(f"{self.name}, image {number}", np.array(images[row]), int(labels[row]))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((len(self), self.classes)).encode())
        for images, labels in self.parts:
            digest.update(np.asarray(labels, np.int64).tobytes())
            digest.update(np.asarray(images[::100]).tobytes())  # all of them may be tens of gigabytes
        return digest.hexdigest()
