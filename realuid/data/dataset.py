"""What training and evaluation may ask of a data set."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["Dataset"]


class Dataset(ABC):
    """Labelled images in an endless, reproducible order. Nothing is read before `open`.

    Attributes:
        shape: of one image, (C, H, W).
        classes: number of classes; 0 means unconditional: every label is 0 then, and `label_counts` is empty.
    """

    shape: tuple[int, int, int]
    classes: int

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
    def images(self) -> Tensor:
        """All images in the order of storage: uint8 [N, C, H, W] in 0..255, on the device."""

    @property
    @abstractmethod
    def labels(self) -> Tensor:
        """All labels in the order of storage: int64 [N], on the device."""

    @property
    @abstractmethod
    def label_counts(self) -> Tensor:
        """Images of each class: int64 [classes], on the CPU."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """A sha256 in hexadecimal that stands for the data: equal for equal shards, whatever their place."""

    @abstractmethod
    def batch(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """Images `start` to `start + count` of the endless order, and their labels.

        The order is a chain of epochs; each shows every image once, in a permutation of its own that depends only on
        the seed and the epoch's number. A batch may cross epochs. Resuming is asking for the position reached.

        Returns:
            Images uint8 [count, C, H, W] in 0..255 and labels int64 [count], both on the device.
        """
