"""Several sets as one, in given proportions."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realuid.data.dataset import Batch, Dataset
from realuid.keys import key

__all__ = ["Mixed"]

BLOCK = 1000


class Mixed(Dataset):
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
        alike = {(tuple(one.shape), one.classes, one.has_sources) for one in sets}
        if len(alike) > 1:
            raise ValueError(f"Mixed takes sets of one shape, number of classes and kind, got {sorted(alike)}")
        self.sets, self.weights = sets, weights
        self.shape, self.classes, self.has_sources = sets[0].shape, sets[0].classes, sets[0].has_sources
        self.tolerate = sum(one.tolerate for one in sets)
        bounds = np.rint(np.cumsum([0.0, *weights]) / sum(weights) * BLOCK).astype(np.int64)
        self._shares: NDArray[np.int64] = np.diff(bounds)
        if self._shares.min() < 1:
            raise ValueError(f"the weights {weights} leave a set less than one sample of {BLOCK}")

    def missing(self) -> str | None:
        return next((line for one in self.sets if (line := one.missing())), None)

    def open(self, *, seed: int, device: torch.device) -> None:
        self._seed = seed
        for number, one in enumerate(self.sets):
            one.open(seed=key("mixed", seed, number), device=device)

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
        homes, places = self._chosen(start, count)
        return self._gathered(homes, lambda number: self._runs(self.sets[number], places[homes == number]))

    def examples(self, start: int, count: int) -> Batch:
        """The sets one after the other, each whole."""
        numbers = np.arange(start, start + count) % len(self)
        starts = np.concatenate([[0], np.cumsum([len(one) for one in self.sets])])
        homes = np.searchsorted(starts, numbers, side="right") - 1

        def part(number: int) -> list[Batch]:
            rows = numbers[homes == number] - starts[number]
            return [self.sets[number].examples(int(run[0]), len(run)) for run in _consecutive(rows)]

        return self._gathered(homes, part)

    def damaged(self) -> dict[str, str]:
        return {place: reason for one in self.sets for place, reason in one.damaged().items()}

    def wait_s(self) -> float:
        return sum(one.wait_s() for one in self.sets)

    def _chosen(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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

    def _runs(self, one: Dataset, places: NDArray[np.int64]) -> list[Batch]:
        return [one.batch(int(run[0]), len(run)) for run in _consecutive(places)]

    def _gathered(self, homes: NDArray[np.int64], part: Callable[[int], list[Batch]]) -> Batch:
        """The parts of all sets, each row at its place."""
        batches, order = [], []
        for number in range(len(self.sets)):
            (rows,) = np.nonzero(homes == number)
            if len(rows):
                batches += part(number)
                order.append(rows)
        images = torch.cat([batch.images for batch in batches])
        inverse = torch.from_numpy(np.argsort(np.concatenate(order))).to(images.device)
        labels = torch.cat([batch.labels for batch in batches])
        sources = [batch.sources for batch in batches if batch.sources is not None]
        return Batch(images[inverse], labels[inverse], torch.cat(sources)[inverse] if sources else None)


def _consecutive(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut where they do not count on."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
