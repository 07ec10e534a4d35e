"""Pairs (x0, x1) for bridges: by degrading x1, or from an independent set of another domain."""

import torch

from realuid.conditions import Condition, Field
from realuid.data.dataset import FAR, Batch, Dataset, Wrapped
from realuid.data.degradations import Degradation, degraded
from realuid.data.pixels import to_float
from realuid.utils.keys import key

__all__ = ["Degraded", "ImageCondition", "Unpaired"]


class Degraded(Wrapped):
    """Each image x1 with its degraded self as source x0, for restoration by bridges (I2SB, arXiv 2302.05872).

    Args:
        data: the images; sources of its own are not used.
        degradation: from x1 to x0.
    """

    has_sources = True

    def __init__(self, *, data: Dataset, degradation: Degradation) -> None:
        super().__init__(data)
        self.degradation = degradation
        self.has_sources = True

    def batch(self, start: int, count: int) -> Batch:
        return self._paired(self.data.batch(start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._paired(self.data.examples(start, count))

    def _paired(self, batch: Batch) -> Batch:
        return batch._replace(sources=degraded("Degraded", self.degradation, batch.images))


class ImageCondition(Wrapped):
    """Each image's degraded self as a field of its condition: for models that start from noise and are shown a low
    resolution, a mask, edges.

    The field is `image` [C, H, W], float32 in [-1, 1].

    Args:
        data: the images.
        degradation: of each image.
    """

    def __init__(self, *, data: Dataset, degradation: Degradation) -> None:
        super().__init__(data)
        self.degradation = degradation

    @property
    def conditions(self) -> tuple[Field, ...]:
        return (*self.data.conditions, Field("image", tuple(self.shape)))

    def batch(self, start: int, count: int) -> Batch:
        return self._shown(self.data.batch(start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._shown(self.data.examples(start, count))

    def condition_batch(self, start: int, count: int) -> Condition:
        return self.batch(FAR + start, count).condition

    def condition_examples(self, start: int, count: int) -> Condition:
        return self.examples(start, count).condition

    def _shown(self, batch: Batch) -> Batch:
        image = to_float(degraded("ImageCondition", self.degradation, batch.images))
        return batch._replace(condition=Condition({**batch.condition, "image": image}))


class Unpaired(Wrapped):
    """Images of one domain with independent images of another as sources.

    The sources have an order of their own, so that over the epochs every image meets other sources.

    Args:
        data: the images x1, and their labels.
        source: the images x0, of the same shape; labels of theirs are not used.

    Raises:
        ValueError: the shapes differ.
    """

    has_sources = True

    def __init__(self, *, data: Dataset, source: Dataset) -> None:
        super().__init__(data)
        if tuple(data.shape) != tuple(source.shape):
            raise ValueError(f"Unpaired needs equal shapes, got {tuple(data.shape)} from sources {tuple(source.shape)}")
        self.source = source
        self.has_sources = True
        self.tolerate = data.tolerate + source.tolerate

    def missing(self) -> str | None:
        return self.data.missing() or self.source.missing()

    def stated_checksum(self) -> str | None:
        parts = [one.stated_checksum() for one in (self.data, self.source)]
        return None if None in parts else " ".join(map(str, parts))

    def open(self, *, seed: int, device: torch.device) -> None:
        self.data.open(seed=seed, device=device)
        self.source.open(seed=key("second domain", seed), device=device)

    def batch(self, start: int, count: int) -> Batch:
        images, condition, _ = self.data.batch(start, count)
        return Batch(images, condition, self.source.batch(start, count).images)

    def examples(self, start: int, count: int) -> Batch:
        images, condition, _ = self.data.examples(start, count)
        return Batch(images, condition, self.source.examples(start, count).images)

    def damaged(self) -> dict[str, str]:
        return self.data.damaged() | self.source.damaged()

    def wait_s(self) -> float:
        return self.data.wait_s() + self.source.wait_s()
