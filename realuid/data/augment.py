"""Augmentation: random changes of samples, seeded by the place of a sample in the endless order."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from realuid.data.dataset import Batch, Dataset, Wrapped
from realuid.data.order import bits
from realuid.utils.keys import key

__all__ = ["Cropped", "Flipped"]


class Flipped(Wrapped):
    """Half of the images mirrored left to right, and their sources with them.

    Args:
        data: the images.
    """

    def __init__(self, *, data: Dataset) -> None:
        super().__init__(data)

    def open(self, *, seed: int, device: torch.device) -> None:
        super().open(seed=seed, device=device)
        self._key = key("flip", seed)

    def batch(self, start: int, count: int) -> Batch:
        images, condition, sources = self.data.batch(start, count)
        (chosen,) = np.nonzero(bits(self._key, start, count) >> np.uint64(63))
        rows = torch.from_numpy(chosen).to(images.device)
        return Batch(_mirrored(images, rows), condition, None if sources is None else _mirrored(sources, rows))

    def examples(self, start: int, count: int) -> Batch:
        return self.data.examples(start, count)


class Cropped(Wrapped):
    """A random square of each image, the same of its source; the middle one in `examples`.

    Args:
        data: the images, larger than the square or padded.
        size: side of the square in pixels.
        padding: pixels by which images are mirrored beyond their edges before cropping; the usual shifts of 32x32
            images are `size = 32, padding = 4`.

    Raises:
        ValueError: the square does not fit into the padded image, or the padding not into the image.
    """

    def __init__(self, *, data: Dataset, size: int, padding: int = 0) -> None:
        super().__init__(data)
        channels, height, width = data.shape
        if size < 1 or padding < 0 or padding >= min(height, width) or size > min(height, width) + 2 * padding:
            raise ValueError(f"Cropped takes no {size}x{size} out of {height}x{width} with a padding of {padding}")
        self.size, self.padding = size, padding
        self.shape = (channels, size, size)

    @property
    def checksum(self) -> str:
        if self.data.shape == self.shape:
            return self.data.checksum  # `examples` are the images themselves
        return hashlib.sha256(f"{self.data.checksum} middle {self.size}".encode()).hexdigest()

    def open(self, *, seed: int, device: torch.device) -> None:
        super().open(seed=seed, device=device)
        self._key = key("crop", seed)

    def batch(self, start: int, count: int) -> Batch:
        images, condition, sources = self.data.batch(start, count)
        random = bits(self._key, start, count)
        room = [length + 2 * self.padding - self.size + 1 for length in self.data.shape[1:]]
        tops = ((random >> np.uint64(32)) % np.uint64(room[0])).astype(np.int64)
        lefts = ((random & np.uint64(0xFFFFFFFF)) % np.uint64(room[1])).astype(np.int64)
        return Batch(
            self._cut(images, tops, lefts), condition, None if sources is None else self._cut(sources, tops, lefts)
        )

    def examples(self, start: int, count: int) -> Batch:
        images, condition, sources = self.data.examples(start, count)
        tops = np.full(count, (self.data.shape[1] + 2 * self.padding - self.size) // 2)
        lefts = np.full(count, (self.data.shape[2] + 2 * self.padding - self.size) // 2)
        return Batch(
            self._cut(images, tops, lefts), condition, None if sources is None else self._cut(sources, tops, lefts)
        )

    def _cut(self, images: Tensor, tops: np.ndarray, lefts: np.ndarray) -> Tensor:
        if self.padding:
            # torch mirrors floats only; float32 holds the levels of uint8 exactly.
            images = F.pad(images.to(torch.float32), [self.padding] * 4, mode="reflect").to(images.dtype)
        side = torch.arange(self.size)
        rows = (torch.from_numpy(tops)[:, None] + side).to(images.device)[:, :, None]  # [n, size, 1]
        columns = (torch.from_numpy(lefts)[:, None] + side).to(images.device)[:, None, :]  # [n, 1, size]
        items = torch.arange(len(images), device=images.device)[:, None, None]
        return images.permute(0, 2, 3, 1)[items, rows, columns].permute(0, 3, 1, 2).contiguous()


def _mirrored(images: Tensor, rows: Tensor) -> Tensor:
    return images.index_copy(0, rows, images[rows].flip(-1))
