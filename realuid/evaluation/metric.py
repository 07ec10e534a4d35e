"""What a metric is: a number, or several, of generated images beside real ones.

A metric states what it reads of either side: the images, their features, the logits of the feature network's classes,
fields of the conditions. What no metric reads is neither computed nor kept.

Every image has a row number. It makes a value independent of how the images were shared out: whatever the batch size
and the number of ranks, samples are put back in order before anything is drawn from them, padding (row -1) is left out,
and an image that was given twice is an error instead of a weight of two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from realuid.evaluation.accumulator import Accumulator
from realuid.evaluation.moments import Moments
from realuid.utils.errors import DataError

__all__ = ["FeatureMetric", "Metric", "Samples"]

Samples = Mapping[str, Tensor]
"""Some images as a metric reads them, one row an image: `images` (uint8 `[n, C, H, W]`), `features` `[n, d]`, `logits`
`[n, classes]`, `scores` `[n]` of how they fit their prompts, `prompt` (see `realuid.evaluation.prompts`), and fields of
their conditions by name, such as `label` `[n]`."""

OF_FEATURES = frozenset({"features", "logits", "scores"})
"""What is computed of features: `scores` with the prompts."""
OF_IMAGES = frozenset({"images", *OF_FEATURES})
"""What can be read of any image. Every other name is its `prompt`, or a field of the condition that belongs to it."""
PROMPT = "prompt"


class Metric(Accumulator, ABC):
    """Judges generated images beside real ones.

    Every rank calls `update` with its own images. `compute` measures these alone; within `sync_context()`, which all
    ranks must enter, it measures the images of all ranks. `reset` forgets the generated images and keeps the real ones.

    Attributes:
        names: names of the values that `measure` returns. The first value of an evaluator's first metric ranks models.
        higher_is_better: whether the first value rises with quality.
        reads: what it reads of generated images: `images`, `features`, `logits`, `scores`, `prompt`, or fields of their
            condition.
        reads_real: what it reads of real images; None for the same, () for a metric that looks at none.
        least: smallest number of images on either side.
        cheap: whether it is measured during training too, as the ranking metric always is.
        halves: number of random divisions of the real images into two halves, whose mean distance is a baseline; 0
            for a metric whose first value is no distance between distributions.
        takes_moments: whether mean and covariance of real features may replace real images, see `refer_to`.
    """

    names: ClassVar[tuple[str, ...]]
    higher_is_better = False
    reads: ClassVar[tuple[str, ...]] = ("features",)
    reads_real: ClassVar[tuple[str, ...] | None] = None
    least: int = 2
    cheap: ClassVar[bool] = False
    halves: ClassVar[int] = 0
    takes_moments: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._declare()

    def _declare(self) -> None:
        """The states: everything that is read, and the row numbers."""
        for side in ("real", "generated"):
            for name in (*self._names_of(side), "rows"):
                self.add_state(f"{side}_{name}")

    @abstractmethod
    def measure(self, real: Samples, generated: Samples) -> dict[str, float]:
        """The values by name, of samples in the order of their rows, on the metric's device."""

    def settings(self) -> dict[str, object]:
        """Settings in which two values must agree to be comparable, beside the feature network and the images."""
        return {}

    def check(self, real: int | None, generated: int, fields: Collection[str]) -> None:
        """Makes sure that there is enough to measure.

        Args:
            real: number of real images; None if it is not known.
            generated: number of generated images.
            fields: of the data's conditions.

        Raises:
            DataError: if there are too few images, or no such field.
        """
        name, least = type(self).__name__, self.least * (2 if self.halves else 1)
        if missing := fields_of(self.reads) - set(fields):
            raise DataError(f"{name} reads {min(missing)} of the condition, which the data set does not give")
        if generated < self.least:
            raise DataError(f"{name} needs at least {self.least} generated images, got {generated}")
        if real is not None and self.names_of_real and real < least:
            what = (
                f"two halves of at least {self.least} real images" if self.halves else f"at least {least} real images"
            )
            raise DataError(f"{name} needs {what}, and there are {real}")

    def refer_to(self, moments: Moments) -> None:
        """Compares with these moments of real features instead of with real images. Raises NotImplementedError for a
        metric that cannot."""
        raise NotImplementedError(f"{type(self).__name__} takes no moments")

    @property
    def names_of_real(self) -> tuple[str, ...]:
        """What it reads of real images."""
        return self.reads if self.reads_real is None else self.reads_real

    def update(self, samples: Samples, rows: Tensor, *, real: bool) -> None:
        """Adds samples, which hold at least what is read of their side, with the numbers `rows` `[n]` of their images;
        -1 marks padding."""
        side, rows = "real" if real else "generated", rows.to(self.device)
        keep = rows >= 0
        self._add(side, {name: samples[name].to(self.device)[keep] for name in self._names_of(side)}, rows[keep])

    def _names_of(self, side: str) -> tuple[str, ...]:
        return self.names_of_real if side == "real" else self.reads

    def _add(self, side: str, samples: Samples, rows: Tensor) -> None:
        for name, tensor in {**samples, "rows": rows}.items():
            self.states[f"{side}_{name}"].append(tensor)

    def compute(self) -> dict[str, float]:
        """The values by name.

        Raises:
            ValueError: if images are missing or were given twice.
        """
        return self.measure(self._ordered("real"), self._ordered("generated"))

    def _ordered(self, side: str) -> dict[str, Tensor]:
        names = self._names_of(side)
        if not names:
            return {}
        rows = self._whole(f"{side}_rows")
        order = rows.argsort()
        check_rows(rows[order], f"{type(self).__name__}, {side} images", self.least)
        return {name: self._whole(f"{side}_{name}")[order] for name in names}

    def _whole(self, state: str) -> Tensor:
        parts = self.states[state]
        return torch.cat(parts) if parts else torch.empty(0)

    def reset(self) -> None:
        """Forgets the generated images."""
        kept = {name: state for name, state in self.states.items() if name.startswith("real")}
        super().reset()
        self.states |= kept


class FeatureMetric(Metric):
    """A metric that reads one thing: features, or logits."""

    @abstractmethod
    def judge(self, real: Tensor, generated: Tensor) -> dict[str, float]:
        """The values of generated features `[M, d]` beside real ones `[N, d]`, both in the order of their rows. A
        metric that looks at no real image is given the generated ones twice."""

    def measure(self, real: Samples, generated: Samples) -> dict[str, float]:
        (name,) = self.reads
        return self.judge(real.get(name, generated[name]), generated[name])


def fields_of(names: Iterable[str]) -> set[str]:
    """What metrics that read `names` must be told of the condition: its fields, and the prompt."""
    return ({PROMPT} if "scores" in (read := set(names)) else set()) | (read - OF_IMAGES)


def check_rows(rows: Tensor, what: str, least: int) -> None:
    """Raises ValueError if the ascending `rows` `[n]` are too few, or two of them are equal."""
    if len(rows) < least:
        raise ValueError(f"{what}: at least {least} are needed, got {len(rows)}")
    twice = rows[1:][rows[1:] == rows[:-1]]
    if len(twice):
        raise ValueError(f"{what}: number {int(twice[0])} was given twice")
