"""Several sets of pictures of different sizes, of which every step reads one: aspect buckets."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realuid.conditions import Condition
from realuid.data.dataset import Batch, Dataset
from realuid.data.several import Several
from realuid.utils.keys import key

__all__ = ["Buckets"]

BLOCK = 4096
"""Steps whose buckets are drawn together."""


class Buckets(Several):
    """Sets of different sizes, as `make_shards.py --buckets` writes them. Every step of a run reads one of them, drawn
    with a probability proportional to its number of images; generated and real samples of the step have its size.

    The draw depends on the seed and the number of the step alone, so that processes, micro-batches and a resumed run
    agree. Each set is read in the order of its own epochs. The first set is the main one: grids and exports have its
    size. Metrics see samples of all sizes, by the sets' numbers of images, where the feature network takes any size
    (`FeatureNetwork.any_size`); else those of the main one beside its images.

    Wrappers (`EncodedLatents`, `Prefetched`, ...) go around each set.

    Args:
        sets: alike in channels, classes, conditions and whether they hold pairs; the main one first.

    Raises:
        ValueError: there is no set, or the sets differ in more than their size.
    """

    def __init__(self, *, sets: tuple[Dataset, ...]) -> None:
        if not sets:
            raise ValueError("Buckets takes one set or more")
        if not all(one.has_images for one in sets):
            raise ValueError("Buckets takes sets of images")
        super().__init__(sets)
        alike = {(one.shape[0], one.classes, one.conditions, one.has_sources) for one in sets}
        if len(alike) > 1:
            kinds = "; ".join(
                f"{channels} channels, {', '.join(map(str, fields)) or 'no condition'}{', pairs' * pairs}"
                for channels, _, fields, pairs in sorted(alike, key=str)
            )
            raise ValueError(f"Buckets takes sets alike in channels, conditions and whether they hold pairs: {kinds}")

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(one.shape for one in self.sets)

    @property
    def parts(self) -> tuple[Dataset, ...]:
        return self.sets

    def open(self, *, seed: int, device: torch.device) -> None:
        for number, one in enumerate(self.sets):
            one.open(seed=seed_of(seed, number), device=device)
        self._check_units()
        self._draws = _Draws(seed, [len(one) for one in self.sets])

    def of_step(self, step: int) -> tuple[Dataset, int]:
        bucket, before = self._draws.of_step(step)
        return self.sets[bucket], before

    def __len__(self) -> int:
        return len(self.main)

    @property
    def label_counts(self) -> Tensor:
        return self.main.label_counts

    @property
    def checksum(self) -> str:
        first, *others = (one.checksum for one in self.sets)
        return hashlib.sha256("; ".join([first, *others]).encode()).hexdigest() if others else first

    def batch(self, start: int, count: int) -> Batch:
        """As of the main set; what a step reads is that of `of_step`."""
        return self.main.batch(start, count)

    def examples(self, start: int, count: int) -> Batch:
        return self.main.examples(start, count)

    def condition_batch(self, start: int, count: int) -> Condition:
        return self.main.condition_batch(start, count)

    def condition_examples(self, start: int, count: int) -> Condition:
        return self.main.condition_examples(start, count)

    def captions(self, count: int) -> list[str] | None:
        return self.main.captions(count)


def seed_of(seed: int, number: int) -> int:
    """The seed of set number `number`. The first one is what it is alone."""
    return key("bucket", seed, number) if number else seed


class _Draws:
    """Which bucket each step reads: independent draws, by the buckets' numbers of images.

    Args:
        seed: of the draws.
        images: of each bucket.
    """

    def __init__(self, seed: int, images: Sequence[int]) -> None:
        self._seed, self._edges = seed, np.cumsum(images)
        self._before = [np.zeros(len(images), np.int64)]
        """Steps of each bucket before each block."""
        self._last: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)

    def of_step(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and how many steps before it have the same one."""
        block, place = divmod(step, BLOCK)
        for number in range(len(self._before) - 1, block):
            self._before.append(self._before[number] + np.bincount(self._block(number), minlength=len(self._edges)))
        drawn = self._block(block)
        bucket = int(drawn[place])
        return bucket, int(self._before[block][bucket] + (drawn[:place] == bucket).sum())

    def _block(self, number: int) -> NDArray[np.int64]:
        if self._last[0] != number:
            random = np.random.RandomState(np.random.Philox(key=key("buckets", self._seed, number)))
            image = (random.random_sample(BLOCK) * self._edges[-1]).astype(np.int64)
            self._last = number, np.searchsorted(self._edges, image, side="right")
        return self._last[1]
