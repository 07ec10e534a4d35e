"""What the images of an evaluation are generated from, and generating them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.conditions import LABEL, Condition, Field, classes_of, labelled
from realuid.conditions.text import TextEncoder
from realuid.data.dataset import Dataset
from realuid.data.pixels import to_float, to_uint8
from realuid.evaluation.draws import balanced_labels, noise
from realuid.evaluation.metric import PROMPT
from realuid.evaluation.prompts import coded
from realuid.utils.errors import DataError
from realuid.utils.progress import Progress

SampleFn = Callable[[Tensor, Condition, Callable[[int], Tensor]], Tensor]
"""From sources x0 `[B, C, H, W]`, their condition, and a function that gives the k-th fresh noise `[B, C, H, W]` to
images in [-1, 1]."""


@dataclass(frozen=True)
class SampleSpec:
    """What samples are, where there is no data set: shape (C, H, W), the fields of their condition, and what makes
    those of prompts."""

    shape: tuple[int, int, int]
    conditions: tuple[Field, ...]
    encoder: TextEncoder | None = None

    @property
    def classes(self) -> int:
        """Number of class labels; 0 for none."""
        return classes_of(self.conditions)


class Inputs(ABC):
    """Source, condition and fresh noise of image i: they depend on the seed and on i alone.

    Args:
        data: says shape and conditions, and gives source images; a `SampleSpec` where the shape is enough.
        seed: of the noise.
    """

    def __init__(self, data: Dataset | SampleSpec, seed: int) -> None:
        self.data, self.seed = data, seed

    @abstractmethod
    def x0(self, start: int, count: int) -> Tensor:
        """Sources of the images from `start`, float32 `[count, C, H, W]`."""

    @abstractmethod
    def condition(self, start: int, count: int) -> Condition:
        """Their condition, `count` rows."""

    def told(self, start: int, count: int, names: Collection[str]) -> dict[str, Tensor]:
        """Fields of their condition on the CPU, and their prompts as tensors, as far as `names` has them."""
        fields = set(names) - {PROMPT}
        condition = self.condition(start, count) if fields else {}
        prompts = {PROMPT: coded(self.prompts(start, count))} if PROMPT in names else {}
        return {name: condition[name].cpu() for name in fields} | prompts

    def prompts(self, start: int, count: int) -> list[str]:
        """Their prompts, where the conditions are those of the data's captions.

        Raises:
            DataError: if the data set gives none.
        """
        assert isinstance(self.data, Dataset)
        known = self.data.captions(min(start + count, len(self.data)))
        if not known:
            raise DataError("the data set gives no captions, by which images could be judged")
        return [known[i % len(self.data)] for i in range(start, start + count)]

    def noise(self, start: int, count: int, draw: int) -> Tensor:
        """Their `draw`-th fresh noise (from 0), float32 `[count, C, H, W]`."""
        return noise(self.seed, start, count, self.data.shape, draw + 1)


class GaussianInputs(Inputs):
    """Gaussian noise, with conditions.

    The conditions are those of `pattern`, repeated in turn. Without a pattern they are class labels in proportion to
    the data's, or, where the data's conditions have other fields, the data's own in the order of storage.

    Args:
        data: see `Inputs`.
        seed: see `Inputs`.
        pattern: conditions to be repeated; None for those of the data, which must be a `Dataset` then.
    """

    def __init__(self, data: Dataset | SampleSpec, seed: int, pattern: Condition | None = None) -> None:
        super().__init__(data, seed)
        self.pattern = pattern

    def x0(self, start: int, count: int) -> Tensor:
        return noise(self.seed, start, count, self.data.shape)

    def condition(self, start: int, count: int) -> Condition:
        if self.pattern is not None:
            return self.pattern.repeated(start, count)
        assert isinstance(self.data, Dataset)
        if any(field.name != LABEL for field in self.data.conditions):
            return self.data.condition_examples(start, count)
        return labelled(balanced_labels(self.data.label_counts, start, count)) if self.data.classes else Condition()


class RepeatedInputs(Inputs):
    """Other inputs, each condition for several images in a row, which differ in their noise.

    Args:
        inputs: from noise, with conditions in the order of storage.
        times: images of a condition.
    """

    def __init__(self, inputs: GaussianInputs, times: int) -> None:
        super().__init__(inputs.data, inputs.seed)
        self.inputs, self.times = inputs, times

    def x0(self, start: int, count: int) -> Tensor:
        return self.inputs.x0(start, count)

    def condition(self, start: int, count: int) -> Condition:
        first, last = start // self.times, (start + count - 1) // self.times
        return self.inputs.condition(first, last + 1 - first).take(
            torch.arange(start, start + count) // self.times - first
        )

    def prompts(self, start: int, count: int) -> list[str]:
        first, last = start // self.times, (start + count - 1) // self.times
        known = self.inputs.prompts(first, last + 1 - first)
        return [known[i // self.times - first] for i in range(start, start + count)]


def told_by(data: Dataset) -> set[str]:
    """What samples of a set are told: its fields, and the prompt if their conditions come in the order of storage, in
    which captions are known."""
    fields = {field.name for field in data.conditions}
    return fields | ({PROMPT} if fields - {LABEL} and data.captions(1) else set())


def repeated(inputs: Inputs, times: int) -> Inputs:
    """The inputs with each condition `times` in a row, where they are noise; source images are taken once."""
    return RepeatedInputs(inputs, times) if times > 1 and isinstance(inputs, GaussianInputs) else inputs


def shared(inputs: Sequence[Inputs], shares: Sequence[range], times: int) -> Iterator[tuple[Inputs, range]]:
    """The inputs of each part of which there are images to make, `repeated`, and the numbers of these images."""
    for one, share in zip(inputs, shares, strict=True):
        if share:
            yield repeated(one, times), share


class ImageInputs(Inputs):
    """The data's source images in the order of storage, repeated in turn.

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

    def condition(self, start: int, count: int) -> Condition:
        return self.images.examples(start, count).condition


class GivenInputs(GaussianInputs):
    """Given source images, repeated in turn.

    Args:
        data: see `Inputs`.
        seed: see `Inputs`.
        pattern: conditions to be repeated.
        sources: uint8 `[n, C, H, W]`.
    """

    def __init__(self, data: Dataset | SampleSpec, seed: int, pattern: Condition, sources: Tensor) -> None:
        super().__init__(data, seed, pattern)
        self.sources = sources

    def x0(self, start: int, count: int) -> Tensor:
        return to_float(self.sources[torch.arange(start, start + count) % len(self.sources)])


def generate(
    sample_fn: SampleFn, inputs: Inputs, *, start: int = 0, count: int, batch: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The images `start` to `start + count` of an evaluation, uint8 `[count, C, H, W]` on the CPU; see `batches`."""
    return torch.cat(list(batches(sample_fn, inputs, start=start, count=count, batch=batch, device=device)))


def batches(
    sample_fn: SampleFn, inputs: Inputs, *, start: int = 0, count: int, batch: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """The images `start` to `start + count` of an evaluation, uint8 `[n, C, H, W]` on the CPU at a time.

    Args:
        sample_fn: makes images; everything it is given lies on `device`.
        inputs: what it makes them from.
        batch: images a call; changes nothing beyond rounding.

    Raises:
        FloatingPointError: `sample_fn` returned a value that is not finite, which no byte can show.
    """
    progress = Progress("images generated", count)
    for first in range(start, start + count, batch):
        size = min(batch, start + count - first)

        def fresh(draw: int, first: int = first, size: int = size) -> Tensor:
            return inputs.noise(first, size, draw).to(device)

        with torch.no_grad(), progress.doing(size):
            images = sample_fn(inputs.x0(first, size).to(device), inputs.condition(first, size).to(device), fresh)
        if not images.isfinite().all():
            raise FloatingPointError(f"generated images {first} to {first + size - 1} hold values that are not finite")
        yield to_uint8(images).cpu()
        progress.advance(size)
