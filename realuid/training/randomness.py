"""Randomness keyed by (seed, purpose, step, lane), never by rank or by what was drawn before.

The global batch is cut into a fixed number of lanes. Every lane draws its share from a generator seeded for this very
purpose and step, so that no generator state has to be saved, a new draw does not shift the others, and how lanes are
shared out over processes does not change the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from realuid.paths.time_samplers import SMALLEST
from realuid.utils.keys import key


class Randomness:
    """Draws for a batch, or for a process's share of it, lane by lane.

    Args:
        seed: the run's seed.
        lanes: number of lanes of the global batch.
        device: where the numbers are drawn; CPU and CUDA draw different ones.
        own: the lanes that are drawn; None for all.
    """

    def __init__(self, *, seed: int, lanes: int, device: torch.device, own: range | None = None) -> None:
        self.seed, self.lanes, self.device = seed, lanes, device
        self.own = range(lanes) if own is None else own
        self.attempt = 0
        """How often the run went back to a checkpoint; each time it goes on with other numbers."""
        # On the meta device nothing is drawn: only shapes are wanted, and it has no generators.
        self._generator = None if device.type == "meta" else torch.Generator(device)

    def normal(self, purpose: str, step: int, count: int, shape: Sequence[int]) -> Tensor:
        """N(0, I), float32: own rows of `[count, *shape]`."""
        return self._draw(purpose, step, count, lambda n: torch.randn((n, *shape), **self._where))

    def uniform(self, purpose: str, step: int, count: int) -> Tensor:
        """U(0, 1), float64, strictly inside the interval: own rows of `[count]`."""
        draws = self._draw(purpose, step, count, lambda n: torch.rand(n, dtype=torch.float64, **self._where))
        return draws.clamp(SMALLEST, 1 - SMALLEST)

    def labels(self, purpose: str, step: int, count: int, frequencies: Tensor) -> Tensor:
        """Class labels, int64, with probabilities proportional to `frequencies` `[classes]`: own rows of `[count]`.

        An empty `frequencies` (an unconditional data set) gives zeros.
        """
        if len(frequencies) == 0:
            return torch.zeros(len(self.rows(count)), dtype=torch.int64, device=self.device)
        edges = torch.cumsum(frequencies.double(), 0) / frequencies.double().sum()
        return torch.searchsorted(edges, self.uniform(purpose, step, count), right=True)

    @property
    def _where(self) -> dict:
        return {"generator": self._generator, "device": self.device}

    def of(self, lanes: range) -> Randomness:
        """The same draws, of these lanes only."""
        share = Randomness(seed=self.seed, lanes=self.lanes, device=self.device, own=lanes)
        share.attempt = self.attempt
        return share

    def rows(self, count: int) -> range:
        """The own rows of a batch of `count` samples, one after another.

        Raises:
            ValueError: if the batch does not divide into lanes.
        """
        if count % self.lanes:
            raise ValueError(f"{count} samples do not divide into {self.lanes} lanes")
        share = count // self.lanes
        return range(self.own.start * share, self.own.stop * share)

    def _draw(self, purpose: str, step: int, count: int, draw: Callable[[int], Tensor]) -> Tensor:
        parts = []
        again = (self.attempt,) if self.attempt else ()
        for lane in self.own:
            if self._generator is not None:
                self._generator.manual_seed(key(self.seed, purpose, step, lane, *again))
            parts.append(draw(len(self.rows(count)) // len(self.own)))
        return torch.cat(parts)
