"""Samples by number, whatever they are made from."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realuid.conditions import Field
from realuid.utils.errors import DataError

__all__ = ["Damaged", "Raw", "Source", "check_distinct", "numbered"]

CLASSES = 1_000_000
"""More than any set has; a single wrong label may claim to be of a later one."""
Picture = NDArray[np.uint8] | tuple[str, bytes]
"""An array [C, H, W], or the bytes of a file and their kind (`png`, `npy`, ...)."""


class Damaged(DataError):
    """A sample that cannot be read or decoded, and may be left out; one line that begins with its name."""


class Raw(NamedTuple):
    """One sample as it was found.

    name: what complaints call it.
    image: uint8 [C, H, W], or a file; None in a source of prompts alone.
    label: its class.
    source: the image x0 of a pair.
    half: which half of a side-by-side image is meant ("left", "right").
    extras: what is kept as it is, by kind: captions (`txt`, `json`), fields of conditions (`text.npy`).
    """

    name: str
    image: Picture | None
    label: int
    source: Picture | None = None
    half: str | None = None
    extras: Mapping[str, bytes] = {}


class Source(ABC):
    """Samples by number.

    A source reads any of them at any time, so that processes can share the work.

    Attributes:
        classes: names of the labels; empty without labels.
        grey: whether images have one channel.
        has_images: whether there are images, or prompts alone.
        pairs: whether each sample has a source image.
        mixed: whether the samples come in a mixed order already.
        conditions: fields that every sample has among its extras.
        encoder: what made them, as an index says it.
        notes: lines that tell the user what was found, and what is left out.
    """

    classes: tuple[str, ...] = ()
    grey: bool = False
    has_images: bool = True
    pairs: bool = False
    mixed: bool = False
    conditions: tuple[Field, ...] = ()
    encoder: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, number: int) -> Raw:
        """One sample.

        Raises:
            Damaged: it cannot be read.
        """

    def would_take(self, place: Path) -> str | None:
        """The folder or pattern by which a data set that is written to `place` would be part of this source the next
        time; None if it would not be."""
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the source does, as far as can be told without reading all of it."""


def numbered(count: int, place: str) -> tuple[str, ...]:
    """Names of classes that are known by their numbers alone. Raises DataError, beginning with `place`, if a label
    makes them too many."""
    if count > CLASSES:
        raise DataError(f"{place}: a label is {count - 1}; no set has more than {CLASSES:,} classes")
    return tuple(str(number) for number in range(count))


def check_distinct(classes: Iterable[str], place: str) -> None:
    """Raises DataError, beginning with `place`, if two names of classes look alike and are not: one with blanks around
    it, or with its accents written in another way, as file systems and archives do."""
    seen: dict[str, str] = {}
    for name in classes:
        shown = " ".join(unicodedata.normalize("NFC", name).split())
        if (other := seen.setdefault(shown, name)) != name:
            raise DataError(f"{place}: the classes {other!a} and {name!a} look alike: give both the same name")


def agreeing(place: str, images: Any, labels: Any) -> tuple[Any, Any]:
    """Images and labels that belong together. Raises DataError unless they are uint8 [N, 1 or 3, H, W] and integers
    [N], of at least one pixel."""
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise DataError(f"{place} holds images of {images.dtype} and labels of {labels.dtype}, not uint8 and integers")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] not in (1, 3) or labels.ndim != 1:
        raise DataError(
            f"{place} holds images of the shape {shape} and labels of {labels.shape}, not [N, 1 or 3, H, W] and [N]"
        )
    if shape[0] != len(labels):
        raise DataError(f"{place} holds {shape[0]} images and {len(labels)} labels")
    if 0 in shape:
        raise DataError(f"{place} is empty: its images have the shape {shape}")
    return images, labels
