"""What training and evaluation may ask of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from realuid.conditions import Condition, Field, class_label
from realuid.conditions.text import TextEncoder

__all__ = ["FAR", "Batch", "Dataset", "Scaling", "Wrapped"]


Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation, each one number for all channels or one for each."""
FAR = 1 << 40
"""Where in the endless order the conditions of generated samples begin: beyond all samples of any run."""


class Batch(NamedTuple):
    """Samples on the device.

    images: uint8 [n, C, H, W] in 0..255, or floats, which are latents in the model's units. `pixels.to_float` gives the
        model's units of either.
    condition: what the images are to be generated from; the fields that the set states.
    sources: the image x0 that is paired with each image x1, as `images`; None where the set has none.
    """

    images: Tensor
    condition: Condition
    sources: Tensor | None = None

    def take(self, rows: Tensor | slice) -> Batch:
        """The samples of these rows."""
        return Batch(self.images[rows], self.condition.take(rows), None if self.sources is None else self.sources[rows])

    def to(self, device: torch.device) -> Batch:
        """On a device; from pinned memory without waiting."""

        def moved(part: Tensor) -> Tensor:
            if device.type == "cuda" and part.device.type == "cpu":
                part = part.pin_memory()
            return part.to(device, non_blocking=True)

        return Batch(
            moved(self.images), self.condition.map(moved), None if self.sources is None else moved(self.sources)
        )


class Dataset(ABC):
    """Labelled images in an endless, reproducible order. Nothing is read before `open`.

    Attributes:
        shape: of one image, (C, H, W).
        classes: number of classes of the labels; 0 for a set without labels, whose `label_counts` is empty.
        has_sources: whether batches carry a paired source image for each image.
        has_images: whether there are images; a set of conditions alone (`Prompts`) has none, and no batches.
        encoder: what made the text embeddings among the conditions, and makes those of new prompts; None without text.
        tolerate: how many damaged samples may be replaced before reading stops; 0 is strict.
    """

    shape: tuple[int, int, int]
    classes: int
    has_sources: bool = False
    has_images: bool = True
    encoder: TextEncoder | None = None
    tolerate: int = 0

    @property
    def conditions(self) -> tuple[Field, ...]:
        """The fields of the condition of every batch: class labels alone, unless a set says more."""
        return class_label(self.classes)

    @property
    def latent_scaling(self) -> Scaling | None:
        """By what latents were shifted and scaled; None for pixels, which are in [-1, 1]."""
        return None

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Of the images of every step: of several shapes where steps differ (`Buckets`), `shape` before the others."""
        return (self.shape,)

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The sets of one shape each that steps read: the set itself, or those of several shapes (`Buckets`), in the
        order of `shapes`."""
        return (self,)

    @property
    def main(self) -> Dataset:
        """What samples are shown by: the part whose shape is `shape`."""
        return self.parts[0]

    def of_step(self, step: int) -> tuple[Dataset, int]:
        """What step number `step` of a run reads, and the number of the step among those that read it.

        The step's batches begin where that number says, whoever asks. A set of one shape is read in every step.
        """
        return self, step

    def made_by(self) -> Mapping[str, str]:
        """Names and checksums of the encoders that made the set, as its index has them: of `text` and `autoencoder`.

        Raises:
            DataError: there is no such set, or its index is damaged.
        """
        return {}

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

    def stated_checksum(self) -> str | None:
        """What the data's indices say of images and labels, read without opening them; None if they say nothing.

        Raises:
            DataError: an index cannot be read, or a shard that has none.
        """
        return None

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

    def condition_batch(self, start: int, count: int) -> Condition:
        """Conditions alone, of samples far away in the endless order: what generated samples are conditioned on.

        They are those of `batch(FAR + start, count)`, in permutations that no batch of a run comes to.

        Raises:
            DataError: as of `batch`.
        """
        return self.batch(FAR + start, count).condition

    def condition_examples(self, start: int, count: int) -> Condition:
        """The conditions of `examples`."""
        return self.examples(start, count).condition

    def captions(self, count: int) -> list[str] | None:
        """The texts that the first samples in the order of storage are described by, at most `count`; None where the
        set holds none."""
        return None

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
    """Wraps a data set and delegates everything that a subclass does not override.

    Raises:
        ValueError: the set is several of different shapes.
    """

    def __init__(self, data: Dataset) -> None:
        if len(data.shapes) > 1:
            own, outer = type(self).__name__, type(data).__name__
            raise ValueError(f"{own}.data = @{outer}() has several sizes: bind @{own}() around each of {outer}.sets")
        self.data = data
        self.shape, self.classes = data.shape, data.classes
        self.has_sources, self.has_images, self.tolerate = data.has_sources, data.has_images, data.tolerate
        self.encoder = data.encoder

    @property
    def conditions(self) -> tuple[Field, ...]:
        return self.data.conditions

    @property
    def latent_scaling(self) -> Scaling | None:
        return self.data.latent_scaling

    def made_by(self) -> Mapping[str, str]:
        return self.data.made_by()

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

    def stated_checksum(self) -> str | None:
        return self.data.stated_checksum()

    def condition_batch(self, start: int, count: int) -> Condition:
        return self.data.condition_batch(start, count)

    def condition_examples(self, start: int, count: int) -> Condition:
        return self.data.condition_examples(start, count)

    def captions(self, count: int) -> list[str] | None:
        return self.data.captions(count)

    def damaged(self) -> dict[str, str]:
        return self.data.damaged()

    def wait_s(self) -> float:
        return self.data.wait_s()
