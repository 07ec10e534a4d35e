"""The endless order: which sample stands at a position. A pure function of the seed and the shards' sizes.

Loaders that shuffle through a buffer depend on how many of them there are. Here a position alone says which sample it
is, so that ranks, worker processes and resumed runs only ever choose who reads what.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from realuid.utils.keys import key

__all__ = ["Order", "bits"]


class Order:
    """Epoch after epoch, each a permutation of its own.

    In an epoch the shards come in random order, in windows of `window` shards, and the samples of a window are
    permuted together: a reader needs the shards of one window at a time. If one window holds all shards, the order is
    that of a set in memory.

    Args:
        seed: of all permutations.
        counts: samples of each shard.
        window: shards that are mixed with each other.
    """

    def __init__(self, *, seed: int, counts: Sequence[int], window: int) -> None:
        self.seed, self.window = seed, max(1, min(window, len(counts)))
        self.counts = np.asarray(counts, np.int64)
        self.samples = int(self.counts.sum())
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])
        self._epochs: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._windows: dict[tuple[int, int], NDArray[np.int64]] = {}

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """The samples at `start` to `start + count`, int64 [count]: their numbers in the order of storage."""
        pieces = []
        position, stop = start, start + count
        while position < stop:
            epoch, offset = divmod(position, self.samples)
            bounds = self._epoch(epoch)[1]
            window = int(np.searchsorted(bounds, offset, side="right")) - 1
            first = offset - int(bounds[window])
            pieces.append(self._permuted(epoch, window)[first : first + stop - position])
            position += len(pieces[-1])
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def windows(self, position: int, count: int) -> list[list[int]]:
        """The shards of the window that holds a position, and of the `count - 1` windows after it."""
        epoch, offset = divmod(position, self.samples)
        window = int(np.searchsorted(self._epoch(epoch)[1], offset, side="right")) - 1
        found = []
        for _ in range(count):
            if window == len(self._epoch(epoch)[1]) - 1:
                epoch, window = epoch + 1, 0
            found.append(self._shards(epoch, window).tolist())
            window += 1
        return found

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of the shards, and where each window starts, with the epoch's end as the last entry."""
        if epoch not in self._epochs:
            shards = np.arange(len(self.counts))
            if self.window < len(shards):
                shards = _random(key("shards", self.seed, epoch)).permutation(len(shards))
            sizes = np.add.reduceat(self.counts[shards], np.arange(0, len(shards), self.window))
            bounds = np.concatenate([[0], np.cumsum(sizes)])
            self._epochs = {**dict(list(self._epochs.items())[-1:]), epoch: (shards, bounds)}
        return self._epochs[epoch]

    def _shards(self, epoch: int, window: int) -> NDArray[np.int64]:
        return self._epoch(epoch)[0][window * self.window : (window + 1) * self.window]

    def _permuted(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The samples of one window in their order; the last two windows are kept, for batches across them."""
        if (epoch, window) not in self._windows:
            shards = self._shards(epoch, window)
            if self.window < len(self.counts):
                seed = key("order", self.seed, epoch, window)
                numbers = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in shards])
            else:
                seed, numbers = key("order", self.seed, epoch), np.arange(self.samples)
            order = numbers[_random(seed).permutation(len(numbers))]
            self._windows = {**dict(list(self._windows.items())[-1:]), (epoch, window): order}
        return self._windows[epoch, window]


def _random(seed: int) -> np.random.RandomState:
    # numpy promises never to change RandomState's numbers: the same order under every version.
    return np.random.RandomState(np.random.Philox(key=seed))


def bits(seed: int, start: int, count: int) -> NDArray[np.uint64]:
    """64 random bits for each of the positions `start` to `start + count`: uint64 [count], splitmix64 of the position.

    What augments a sample is drawn by position, so that it is the same whoever reads the sample, and another one in the
    next epoch.
    """
    with np.errstate(over="ignore"):
        state = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = state + np.uint64(seed)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
