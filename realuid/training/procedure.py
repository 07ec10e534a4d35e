"""What the trainer drives: a procedure takes one step at a time and can be sampled, saved and resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from realuid.data.dataset import Dataset
from realuid.interpolants import Interpolant
from realuid.samplers import Sampler
from realuid.time_samplers import TimeSampler
from realuid.training.ema import EMA
from realuid.training.randomness import Randomness

Generator = Callable[[Tensor, Tensor], Tensor]
"""From source samples `[B, C, H, W]` and labels `[B]` to images `[B, C, H, W]` in about [-1, 1]."""


@dataclass(frozen=True)
class Context:
    """What a procedure is given when it starts."""

    device: torch.device
    batch: int
    """Samples in the global batch."""
    shape: tuple[int, ...]
    """Shape of one sample."""
    data: Dataset
    frequencies: Tensor
    """Images of each class `[classes]`, on the device; empty for unconditional data."""
    randomness: Randomness


class Procedure(ABC):
    """One way of training: a teacher's regression, or a distillation."""

    sampler: Sampler
    """The teacher's, in many steps."""
    ema: EMA
    """Averages of the network that the procedure is about; what is evaluated and exported."""

    trained: ClassVar[tuple[str, ...]]
    """Roles of the networks that are trained; the others are frozen."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks by role, the one that is averaged first."""

    @abstractmethod
    def start(self, context: Context) -> None:
        """Moves the networks to the device, initialises them and creates the optimisers.

        Raises:
            ValueError: if the assembled parts do not fit each other.
        """

    @abstractmethod
    def step(self, index: int) -> dict[str, Tensor]:
        """The step number `index` (from 0): updates the networks and returns scalars on the device, to be averaged."""

    @abstractmethod
    def generators(self, ema: str | None = None) -> dict[str, Generator]:
        """What can be sampled, by role (`student`, `teacher`), with the average `ema` (default: the first)."""

    @abstractmethod
    def sampling(self, role: str) -> dict[str, str | None]:
        """How a role's samples come about, for the stamp of its figures: `sampler`, and `ema` (None: not averaged)."""

    def known(self, role: str) -> dict[str, Any]:
        """Figures and stamps of a role that an earlier run measured; empty where there is none."""
        return {}

    def restore(self, averages: dict, device: torch.device) -> None:
        """Loads the averages of a checkpoint and nothing else: enough to sample, without teacher or data."""
        network = next(iter(self.networks().values())).to(device)
        self.ema.attach(network)
        self.ema.load_state_dict(averages)

    @abstractmethod
    def passes(self, context: Context) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        """The kinds of forward-and-backward passes in one step, for the dry run's arithmetic: how many of each, and a
        function that computes its loss on the context's device without reading data."""

    @abstractmethod
    def state_dict(self) -> dict:
        """Everything but the averages that the next step depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict) -> None: ...


@dataclass(frozen=True)
class PathDraws:
    """Where on the path a batch is looked at: source samples, latent noise and times."""

    x0: Tensor
    z: Tensor | None
    t: Tensor

    def take(self, rows: Tensor) -> PathDraws:
        """The draws of these rows of the batch."""
        return PathDraws(self.x0[rows], None if self.z is None else self.z[rows], self.t[rows])


def draw_path(context: Context, interpolant: Interpolant, time_sampler: TimeSampler, step: int) -> PathDraws:
    """Draws source samples, latent noise (where the path has it) and times for one batch."""
    randomness, count, shape = context.randomness, context.batch, context.shape
    return PathDraws(
        x0=randomness.normal("source", step, count, shape),
        z=randomness.normal("latent", step, count, shape) if interpolant.needs_latent else None,
        t=time_sampler.quantile(randomness.uniform("time", step, count), interpolant),
    )
