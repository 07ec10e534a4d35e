"""What training and evaluation may ask of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "Dataset", "Wrapped"]


class Batch(NamedTuple):
    """Samples on the device.

    images: uint8 [n, C, H, W] in 0..255. Latents are float32 in the same units, so that `to_float` gives them back.
    labels: int64 [n]; zeros in a set without classes.
    sources: the image x0 that is paired with each image x1, as `images`; None where the set has none.
    """

    images: Tensor
    labels: Tensor
    sources: Tensor | None = None


class Dataset(ABC):
    """Labelled images in an endless, reproducible order. Nothing is read before `open`.

    Attributes:
        shape: of one image, (C, H, W).
        classes: number of classes; 0 means unconditional: every label is 0 then, and `label_counts` is empty.
        has_sources: whether batches carry a paired source image for each image.
        latent_scaling: for latents mean and deviation, one for all channels or one for each, by which they were shifted
            and scaled; None for pixels, which are in [-1, 1].
        tolerate: how many damaged samples may be replaced before reading stops; 0 is strict.
    """

    shape: tuple[int, int, int]
    classes: int
    has_sources: bool = False
    latent_scaling: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    tolerate: int = 0

    @abstractmethod
    def missing(self) -> str | None:
        """One line that says what is not there yet, or None. Reads no samples and writes nothing.

        Raises:
            DataError: the data is there but does not fit the declared shape, classes or split.
        """

    @abstractmethod
    def open(self, *, seed: int, device: torch.device) -> None:
        """Makes ready to give out batches on `device`, in the order that belongs to `seed`.

        Raises:
            DataError: the data is missing, damaged, or does not fit the declared shape, classes or split.
        """

    @abstractmethod
    def __len__(self) -> int:
        """N, the number of images."""

    @property
    @abstractmethod
    def label_counts(self) -> Tensor:
        """Images of each class: int64 [classes], on the CPU."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """A sha256 in hexadecimal that stands for images and labels: equal for equal shards, whatever their place."""

    @abstractmethod
    def batch(self, start: int, count: int) -> Batch:
        """Samples `start` to `start + count` of the endless order.

        The order is a chain of epochs; each shows every image once, in a permutation of its own that depends only on
        the seed and the epoch's number, and never on who asks: a rank asks for its own rows of each global batch. A
        batch may cross epochs. Resuming is asking for the position reached. Any access is right; the same count again
        and again, at a fixed distance, is what loaders read ahead.

        Raises:
            DataError: a sample is damaged, and no more of that is tolerated; the line names shard and key.
        """

    @abstractmethod
    def examples(self, start: int, count: int) -> Batch:
        """Samples `start` to `start + count` in the order of storage, modulo N, without augmentation.

        What evaluation reads: the same samples for every seed.
        """

    def damaged(self) -> dict[str, str]:
        """The damaged samples met so far in this process and replaced by others: shard and key, and the reason."""
        return {}

    def faults(self) -> dict[str, int]:
        """How many damaged samples were met so far in this process, by reason; each counts once in however many
        epochs. Empty where nothing was tolerated."""
        return dict(Counter(self.damaged().values()))

    def wait_s(self) -> float:
        """Seconds that `batch` and `examples` kept their caller waiting since this was asked last; 0 in memory."""
        return 0.0


class Wrapped(Dataset):
    """A data set made from another one, as which it passes for in everything that a subclass does not change."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.shape, self.classes = data.shape, data.classes
        self.has_sources, self.tolerate = data.has_sources, data.tolerate
        self.latent_scaling = data.latent_scaling

    def missing(self) -> str | None:
        return self.data.missing()

    def open(self, *, seed: int, device: torch.device) -> None:
        self.data.open(seed=seed, device=device)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def label_counts(self) -> Tensor:
        return self.data.label_counts

    @property
    def checksum(self) -> str:
        return self.data.checksum

    def damaged(self) -> dict[str, str]:
        return self.data.damaged()

    def wait_s(self) -> float:
        return self.data.wait_s()
