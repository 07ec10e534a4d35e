"""Randomness keyed by (seed, purpose, step, lane), never by rank or by what was drawn before.

The global batch is cut into a fixed number of lanes. Every lane draws its share from a generator seeded for this very
purpose and step, so that no generator state has to be saved, a new draw does not shift the others, and how lanes are
shared out over processes does not change the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from realuid.keys import key
from realuid.time_samplers import SMALLEST


class Randomness:
    """Draws for a batch, lane by lane.

    Args:
        seed: the run's seed.
        lanes: number of lanes of the global batch.
        device: where the numbers are drawn; CPU and CUDA draw different ones.
    """

    def __init__(self, *, seed: int, lanes: int, device: torch.device) -> None:
        self.seed, self.lanes, self.device = seed, lanes, device
        # On the meta device nothing is drawn: only shapes are wanted, and it has no generators.
        self._generator = None if device.type == "meta" else torch.Generator(device)

    def normal(self, purpose: str, step: int, count: int, shape: Sequence[int]) -> Tensor:
        """N(0, I), `[count, *shape]` float32."""
        return self._draw(purpose, step, count, lambda n: torch.randn((n, *shape), **self._where))

    def uniform(self, purpose: str, step: int, count: int) -> Tensor:
        """U(0, 1), `[count]` float64, strictly inside the interval."""
        draws = self._draw(purpose, step, count, lambda n: torch.rand(n, dtype=torch.float64, **self._where))
        return draws.clamp(SMALLEST, 1 - SMALLEST)

    def labels(self, purpose: str, step: int, count: int, frequencies: Tensor) -> Tensor:
        """Class labels `[count]`, int64, with probabilities proportional to `frequencies` `[classes]`.

        An empty `frequencies` (an unconditional data set) gives zeros.
        """
        if len(frequencies) == 0:
            return torch.zeros(count, dtype=torch.int64, device=self.device)
        edges = torch.cumsum(frequencies.double(), 0) / frequencies.double().sum()
        return torch.searchsorted(edges, self.uniform(purpose, step, count), right=True)

    @property
    def _where(self) -> dict:
        return {"generator": self._generator, "device": self.device}

    def _draw(self, purpose: str, step: int, count: int, draw: Callable[[int], Tensor]) -> Tensor:
        if count % self.lanes:
            raise ValueError(f"{count} samples do not divide into {self.lanes} lanes")
        parts = []
        for lane in range(self.lanes):
            if self._generator is not None:
                self._generator.manual_seed(key(self.seed, purpose, step, lane))
            parts.append(draw(count // self.lanes))
        return torch.cat(parts)
