"""What the trainer drives: a procedure takes one step at a time and can be sampled, saved and resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from realuid.couplings import Coupling
from realuid.data.dataset import Batch, Dataset
from realuid.data.pixels import to_float
from realuid.decoders import Decoder
from realuid.interpolants import Interpolant
from realuid.samplers import FreshNoise, Sampler
from realuid.time_samplers import TimeSampler
from realuid.training.compute import Compute, Kind
from realuid.training.distribution import Distribution, Objective, Replicated
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam
from realuid.training.randomness import Randomness
from realuid.training.world import World

Generator = Callable[[Tensor, Tensor, FreshNoise], Tensor]
"""From source samples `[B, C, H, W]`, labels `[B]` and fresh noise to images `[B, C, H, W]` in about [-1, 1]."""


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
    """Of the lanes of the global batch that are this process's."""
    parts: int = 1
    """Micro-batches that this process takes its lanes in, one after another."""
    world: World = field(default_factory=lambda: World(torch.device("cpu")))
    distribution: Distribution = field(default_factory=Replicated)
    compute: Compute = field(default_factory=Compute)

    def shares(self) -> list[Context]:
        """The context of each micro-batch: some of the lanes each."""
        if self.parts == 1:
            return [self]
        own = self.randomness.own
        lanes = len(own) // self.parts
        firsts = range(own.start, own.stop, lanes)
        return [replace(self, randomness=self.randomness.of(range(n, n + lanes)), parts=1) for n in firsts]

    def read(self, start: int, count: int) -> list[Batch]:
        """This process's rows of the samples `start` to `start + count`, read at once, for each micro-batch."""
        rows = self.randomness.rows(count)
        batch, size = self.data.batch(start + rows.start, len(rows)), len(rows) // self.parts
        pieces = [(None,) * self.parts if part is None else part.split(size) for part in batch]
        return [Batch(*piece) for piece in zip(*pieces, strict=True)]


class Procedure(ABC):
    """One way of training: a teacher's regression, or a distillation."""

    coupling: Coupling
    """How source and data are paired; says where x0 comes from."""
    sampler: Sampler
    """The teacher's, in many steps."""
    ema: EMA
    """Averages of the network that the procedure is about; what is evaluated and exported."""

    distribution: Distribution = Replicated()
    """How the networks are spread over processes, once it has started."""

    decoder: Decoder | None = None
    """Turns samples into pictures, where they are latents."""
    trained: ClassVar[tuple[str, ...]]
    """Roles of the networks that are trained; the others are frozen."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks by role, the one that is averaged first."""

    @abstractmethod
    def check(self, context: Context) -> None:
        """Makes sure, before anything is trained or read, that batches, lanes and data fit each other.

        Raises:
            ValueError: naming what does not.
        """

    @abstractmethod
    def start(self, context: Context) -> None:
        """Moves the networks to the device, initialises them and creates the optimisers.

        Raises:
            ValueError: if the assembled parts do not fit each other.
        """

    @abstractmethod
    def optimizers(self) -> dict[str, Adam]:
        """The optimisers by role of what they train."""

    @abstractmethod
    def step(self, index: int) -> dict[str, Tensor]:
        """The step number `index` (from 0): updates the networks and returns scalars on the device, this process's
        share of them, to be averaged over steps and processes."""

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

    def images_read(self, batch: int) -> int:
        """Images of the data set that a step reads."""
        return batch

    @abstractmethod
    def state_dict(self) -> dict:
        """Everything but the averages that the next step depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict) -> None: ...


def backward(
    context: Context, kind: Kind, objective: Objective, shares: Sequence[tuple[Any, ...]]
) -> dict[str, Tensor]:
    """Leaves the gradient of the objective's mean over all micro-batches of all processes.

    Args:
        kind: of the step, which says how its arithmetic is done.
        shares: arguments of the objective for each of this process's micro-batches.

    Returns:
        Means of the objective's scalars over this process's micro-batches.
    """
    sums: dict[str, Tensor] = {}
    arithmetic = context.compute.arithmetic(kind, context.device)
    for number, (share, arguments) in enumerate(zip(context.shares(), shares, strict=True), start=1):
        with objective.summing(last=number == len(shares)), arithmetic.update():
            with arithmetic.forward():
                loss, scalars = objective(share, *arguments)
            (loss / len(shares)).backward()
        for name, value in scalars.items():
            part = value.detach() / len(shares)
            sums[name] = sums[name] + part if name in sums else part
    return sums


@dataclass(frozen=True)
class PathDraws:
    """Where on the path a batch is looked at: source samples, latent noise and times."""

    x0: Tensor
    z: Tensor | None
    t: Tensor

    def take(self, rows: Tensor) -> PathDraws:
        """The draws of these rows of the batch."""
        return PathDraws(self.x0[rows], None if self.z is None else self.z[rows], self.t[rows])

    def and_then(self, other: PathDraws) -> PathDraws:
        """These draws and, after them, those of another batch on the same path."""
        z = None if self.z is None or other.z is None else torch.cat([self.z, other.z])
        return PathDraws(torch.cat([self.x0, other.x0]), z, torch.cat([self.t, other.t]))


def draw_path(
    context: Context,
    interpolant: Interpolant,
    time_sampler: TimeSampler,
    step: int,
    x0: Tensor | None = None,
    purpose: str = "",
) -> PathDraws:
    """Draws latent noise (where the path has it), times and, if x0 is not given, a Gaussian source for one batch;
    draws of another `purpose` are independent."""
    randomness, count, shape = context.randomness, context.batch, context.shape
    return PathDraws(
        x0=randomness.normal(f"{purpose}source", step, count, shape) if x0 is None else x0,
        z=randomness.normal(f"{purpose}latent", step, count, shape) if interpolant.needs_latent else None,
        t=time_sampler.quantile(randomness.uniform(f"{purpose}time", step, count), interpolant),
    )


def source_images(batch: Batch) -> Tensor:
    """The batch's source images in [-1, 1], `[B, C, H, W]`.

    Raises:
        ValueError: if the data set gives none.
    """
    if batch.sources is None:
        raise ValueError(
            "the coupling takes its source from the data, but Trainer.data gives no source images: "
            "bind @Degraded(), @Unpaired() or a set of pairs"
        )
    return to_float(batch.sources)


def check_groups(context: Context, coupling: Coupling, **batches: int) -> None:
    """Makes sure that each lane's share of these batches divides into the coupling's groups.

    Raises:
        ValueError: naming the batch that does not.
    """
    for name, count in batches.items():
        share, rest = divmod(count, context.randomness.lanes)
        if rest or share % coupling.size:
            raise ValueError(
                f"{name} = {count} must divide into {context.randomness.lanes} lanes"
                + (f" of whole groups of {coupling.size} ({type(coupling).__name__}.size)" if coupling.size > 1 else "")
            )


def empty_batch(context: Context, count: int) -> Batch:
    """A batch of the right shapes, for counting costs."""
    images = torch.zeros((count, *context.shape), dtype=torch.uint8, device=context.device)
    return Batch(images, torch.zeros(count, dtype=torch.int64, device=context.device), images)
