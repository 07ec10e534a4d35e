"""What the images of an evaluation are made from, and the images made from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.data.dataset import Dataset
from realuid.data.pixels import to_float, to_uint8
from realuid.errors import DataError
from realuid.evaluation.draws import balanced_labels, noise

SampleFn = Callable[[Tensor, Tensor, Callable[[int], Tensor]], Tensor]
"""From sources x0 `[B, C, H, W]`, labels `[B]` and a function that gives the k-th fresh noise `[B, C, H, W]` to images
in [-1, 1]."""


@dataclass(frozen=True)
class Form:
    """What samples are, where there is no data set: shape (C, H, W) and number of classes."""

    shape: tuple[int, int, int]
    classes: int


class Inputs(ABC):
    """Source, label and fresh noise of image i: they depend on the seed and on i alone.

    Args:
        data: says shape and labels, and gives source images; a `Form` where neither labels nor images are asked of it.
        seed: of the noise.
    """

    def __init__(self, data: Dataset | Form, seed: int) -> None:
        self.data, self.seed = data, seed

    @abstractmethod
    def x0(self, start: int, count: int) -> Tensor:
        """Sources of the images from `start`, float32 `[count, C, H, W]`."""

    @abstractmethod
    def labels(self, start: int, count: int) -> Tensor:
        """Their labels, int64 `[count]`."""

    def noise(self, start: int, count: int, draw: int) -> Tensor:
        """Their fresh noise number `draw` = 0, 1, ..., float32 `[count, C, H, W]`."""
        return noise(self.seed, start, count, self.data.shape, draw + 1)


class GaussianInputs(Inputs):
    """Noise, and labels in proportion to the data's or, if given, `pattern` again and again.

    Args:
        data: see `Inputs`.
        seed: see `Inputs`.
        pattern: labels `[n]`.
    """

    def __init__(self, data: Dataset | Form, seed: int, pattern: Tensor | None = None) -> None:
        super().__init__(data, seed)
        self.pattern = pattern

    def x0(self, start: int, count: int) -> Tensor:
        return noise(self.seed, start, count, self.data.shape)

    def labels(self, start: int, count: int) -> Tensor:
        if self.pattern is not None:
            return self.pattern[torch.arange(start, start + count) % len(self.pattern)]
        assert isinstance(self.data, Dataset)
        return balanced_labels(self.data.label_counts, start, count)


class ImageInputs(Inputs):
    """The data's source images in the order of storage, again from the start where they end.

    Raises:
        DataError: if the data set gives no source images.
    """

    def __init__(self, data: Dataset, seed: int) -> None:
        super().__init__(data, seed)
        self.images = data
        if not data.has_sources:
            raise DataError("the model starts from source images, but the data set gives none")

    def x0(self, start: int, count: int) -> Tensor:
        sources = self.images.examples(start, count).sources
        assert sources is not None
        return to_float(sources)

    def labels(self, start: int, count: int) -> Tensor:
        return self.images.examples(start, count).labels


class GivenInputs(GaussianInputs):
    """Given source images, again from the start where they end.

    Args:
        data: see `Inputs`.
        seed: see `Inputs`.
        pattern: labels `[n]`.
        sources: uint8 `[n, C, H, W]`.
    """

    def __init__(self, data: Dataset | Form, seed: int, pattern: Tensor, sources: Tensor) -> None:
        super().__init__(data, seed, pattern)
        self.sources = sources

    def x0(self, start: int, count: int) -> Tensor:
        return to_float(self.sources[torch.arange(start, start + count) % len(self.sources)])


def generate(
    sample_fn: SampleFn, inputs: Inputs, *, start: int = 0, count: int, batch: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The images `start` to `start + count` of an evaluation, uint8 `[count, C, H, W]` on the CPU.

    Args:
        sample_fn: makes images; everything it is given lies on `device`.
        inputs: what it makes them from.
        batch: images a call; changes nothing beyond rounding.

    Raises:
        FloatingPointError: `sample_fn` returned a value that is not finite (as a byte it would pass for a pixel).
    """
    parts = []
    for first in range(start, start + count, batch):
        size = min(batch, start + count - first)

        def fresh(draw: int, first: int = first, size: int = size) -> Tensor:
            return inputs.noise(first, size, draw).to(device)

        with torch.no_grad():
            images = sample_fn(inputs.x0(first, size).to(device), inputs.labels(first, size).to(device), fresh)
        if not images.isfinite().all():
            raise FloatingPointError(f"generated images {first} to {first + size - 1} hold values that are not finite")
        parts.append(to_uint8(images).cpu())
    return torch.cat(parts)
