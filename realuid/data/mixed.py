"""Several sets as one, in given proportions."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realuid.conditions import Condition
from realuid.data.dataset import FAR, Batch, Dataset
from realuid.data.several import Several
from realuid.utils.keys import key

__all__ = ["Mixed"]

BLOCK = 1000
Part = TypeVar("Part", Batch, Condition)
Numbers = NDArray[np.int64]
Ask = Callable[[Dataset, int, int], Part]
"""What is asked of a set: `count` samples from a number on."""


class Mixed(Several):
    """Samples of several sets in fixed proportions, in an endless order.

    Of every thousand samples each set gives the share that is its weight, rounded to whole samples, in the order of its
    own epochs: a set that is small for its weight is seen more often than the others.

    Args:
        sets: at least two, alike in shape, classes and whether they hold pairs.
        weights: positive, one for each set; only their ratios count.

    Raises:
        ValueError: the sets differ, or the weights do not fit them, or give a set less than one sample of a thousand.
    """

    def __init__(self, *, sets: tuple[Dataset, ...], weights: tuple[float, ...]) -> None:
        if len(sets) < 2 or len(weights) != len(sets) or min(weights) <= 0:
            raise ValueError(f"Mixed takes two sets or more with a positive weight each, got {len(sets)} and {weights}")
        super().__init__(sets)
        alike = {(tuple(one.shape), one.conditions, one.has_sources) for one in sets}
        if len(alike) > 1:
            kinds = "; ".join(f"{shape}, {', '.join(map(str, c)) or 'no condition'}" for shape, c, _ in alike)
            raise ValueError(f"Mixed takes sets alike in shape, conditions and whether they hold pairs, got {kinds}")
        self.weights = weights
        bounds = np.rint(np.cumsum([0.0, *weights]) / sum(weights) * BLOCK).astype(np.int64)
        self._shares: Numbers = np.diff(bounds)
        if self._shares.min() < 1:
            raise ValueError(f"the weights {weights} leave a set less than one sample of {BLOCK}")

    def open(self, *, seed: int, device: torch.device) -> None:
        self._seed = seed
        for number, one in enumerate(self.sets):
            one.open(seed=key("mixed", seed, number), device=device)
        self._check_units()

    def __len__(self) -> int:
        return sum(len(one) for one in self.sets)

    @property
    def label_counts(self) -> Tensor:
        """Images of each class as they are given out: each set's share of all N, by the set's own frequencies."""
        counts = torch.zeros(self.classes, dtype=torch.float64)
        for one, share in zip(self.sets, self._shares.tolist(), strict=True):
            counts += one.label_counts.double() * (len(self) * share / BLOCK / len(one))
        return counts.round().to(torch.int64)

    @property
    def checksum(self) -> str:
        parts = [f"{one.checksum} {share}" for one, share in zip(self.sets, self._shares.tolist(), strict=True)]
        return hashlib.sha256("; ".join(parts).encode()).hexdigest()

    def batch(self, start: int, count: int) -> Batch:
        return self._batch(*self._chosen(start, count), lambda one, first, n: one.batch(first, n))

    def examples(self, start: int, count: int) -> Batch:
        """The sets one after the other, each whole."""
        return self._batch(*self._stored_at(start, count), lambda one, first, n: one.examples(first, n))

    def condition_batch(self, start: int, count: int) -> Condition:
        # Sets that are asked for conditions alone count from FAR, too.
        chosen = self._chosen(FAR + start, count)
        return self._condition(*chosen, lambda one, first, n: one.condition_batch(first - FAR, n))

    def condition_examples(self, start: int, count: int) -> Condition:
        return self._condition(*self._stored_at(start, count), lambda one, first, n: one.condition_examples(first, n))

    def _chosen(self, start: int, count: int) -> tuple[Numbers, Numbers]:
        """For each position the set that gives it, and the position in that set's order."""
        homes, places = [], []
        for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
            random = np.random.RandomState(np.random.Philox(key=key("mixture", self._seed, block)))
            home = random.permutation(np.repeat(np.arange(len(self.sets)), self._shares))
            place = np.empty(BLOCK, np.int64)
            for number, share in enumerate(self._shares.tolist()):
                place[home == number] = block * share + np.arange(share)
            homes.append(home)
            places.append(place)
        first = start - start // BLOCK * BLOCK
        return np.concatenate(homes)[first : first + count], np.concatenate(places)[first : first + count]

    def _stored_at(self, start: int, count: int) -> tuple[Numbers, Numbers]:
        """For each position in the order of storage its set, and the number in that set."""
        numbers = np.arange(start, start + count) % len(self)
        starts = np.concatenate([[0], np.cumsum([len(one) for one in self.sets])])
        homes = np.searchsorted(starts, numbers, side="right") - 1
        return homes, numbers - starts[homes]

    def _parts(self, homes: Numbers, places: Numbers, ask: Ask[Part]) -> tuple[list[Part], Tensor]:
        """What the sets answer, and for each position the row of their answers that belongs to it."""
        parts: list[Part] = []
        order = []
        for number, one in enumerate(self.sets):
            (rows,) = np.nonzero(homes == number)
            if len(rows):
                parts += [ask(one, int(run[0]), len(run)) for run in _consecutive(places[rows])]
                order.append(rows)
        return parts, torch.from_numpy(np.argsort(np.concatenate(order)))

    def _batch(self, homes: Numbers, places: Numbers, ask: Ask[Batch]) -> Batch:
        batches, rows = self._parts(homes, places, ask)
        images = torch.cat([batch.images for batch in batches])
        condition = Condition.cat([batch.condition for batch in batches])
        sources = [batch.sources for batch in batches if batch.sources is not None]
        return Batch(images, condition, torch.cat(sources) if sources else None).take(rows.to(images.device))

    def _condition(self, homes: Numbers, places: Numbers, ask: Ask[Condition]) -> Condition:
        conditions, rows = self._parts(homes, places, ask)
        joined = Condition.cat(conditions)
        return joined.take(rows.to(next((tensor.device for tensor in joined.values()), "cpu")))


def _consecutive(numbers: Numbers) -> list[Numbers]:
    """Cut where they do not count on."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
