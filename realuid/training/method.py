"""What the trainer drives: a method takes one step at a time and can be sampled, saved and resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, Field, labelled
from realuid.data.dataset import Batch, Dataset
from realuid.data.pixels import to_float
from realuid.models.decoders import Decoder
from realuid.models.matching import PosteriorMean
from realuid.paths.couplings import Coupling
from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import TimeSampler
from realuid.samplers import FreshNoise, Sampler
from realuid.training.compute import Compute, Kind
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam
from realuid.training.parallelism import DDP, Objective, Parallelism
from realuid.training.randomness import Randomness
from realuid.training.world import World

Generator = Callable[[Tensor, Condition, FreshNoise], Tensor]
"""From source samples `[B, C, H, W]`, their condition and fresh noise to images `[B, C, H, W]` in about [-1, 1]."""


@dataclass(frozen=True)
class Context:
    """What a method is given when it starts."""

    device: torch.device
    batch: int
    """Samples in the global batch."""
    shape: tuple[int, ...]
    """Shape of one sample."""
    data: Dataset
    prompts: Dataset | None
    """What the conditions of generated samples are drawn from; None for `data`."""
    frequencies: Tensor
    """Samples of each class `[classes]` that conditions are drawn from, on the device; empty without classes."""
    randomness: Randomness
    """Of the lanes of the global batch that are this process's."""
    counted: dict[Dataset, Tensor] = field(default_factory=dict, init=False)
    """`frequencies` of those of several sets that were read so far."""
    elsewhere: int = 0
    """Steps before this one that read other sets than `data`, where there are several."""
    parts: int = 1
    """Micro-batches that this process takes its lanes in, one after another."""
    world: World = field(default_factory=lambda: World(torch.device("cpu")))
    parallelism: Parallelism = field(default_factory=DDP)
    compute: Compute = field(default_factory=Compute)

    def of_step(self, index: int) -> Context:
        """The context of step number `index`: where steps read sets of different shapes, with the one that it reads."""
        data, place = self.data.of_step(index)
        if data is self.data:
            return self
        if self.prompts is None and data.classes and data not in self.counted:
            self.counted[data] = data.label_counts.to(self.frequencies)
        frequencies = self.counted.get(data, self.frequencies)
        return replace(self, data=data, shape=data.shape, frequencies=frequencies, elsewhere=index - place)

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
        return [batch.take(slice(first, first + size)) for first in range(0, len(rows), size)]

    def drawn_condition(self, step: int, place: int | None = None) -> Condition:
        """The condition of generated samples, drawn from the data's own.

        Class labels alone are drawn by their frequencies; whatever else there is, by position, so that what belongs
        together stays together. Either depends on seed, step and lane, and on nothing else.

        Args:
            step: number of the batch of generated samples.
            place: its number among those that are read from `data`; None for `step`.
        """
        data, place = (self.data, step if place is None else place) if self.prompts is None else (self.prompts, step)
        if any(field.name != LABEL for field in data.conditions):
            rows = self.randomness.rows(self.batch)
            return data.condition_batch(place * self.batch + rows.start, len(rows))
        if not len(self.frequencies):
            return Condition()
        return labelled(self.randomness.labels("label", step, self.batch, self.frequencies))


class NeededTeacher(Protocol):
    """A trained model that a method starts from."""

    model: PosteriorMean
    checkpoint: str | None
    ema: str | None

    @property
    def needs_weights(self) -> bool:
        """Whether it has weights, which `checkpoint` names once they are there."""

    def load(self) -> None:
        """Reads the weights."""

    def pack(self) -> None:
        """Brings them into the type in which they are kept, once nothing else starts from them."""


class Method(ABC):
    """One way of training: a teacher's regression, or a distillation."""

    coupling: Coupling
    """How source and data are paired; says where x0 comes from."""
    sampler: Sampler
    """The teacher's, in many steps."""
    ema: EMA
    """Averages of the network that the method is about; what is evaluated and exported."""

    parallelism: Parallelism = DDP()
    """How the networks are spread over processes, once it has started."""

    teacher: NeededTeacher | None = None
    """The trained model that must be there before the run starts; None if the method learns from data alone."""
    decoder: Decoder | None = None
    """Turns samples into pictures, where they are latents."""
    trained: ClassVar[tuple[str, ...]]
    """Roles of the networks that are trained; the others are frozen."""
    components: ClassVar[dict[str, tuple[str, ...]]]
    """By the roles that can be sampled, the arguments of this class that their samples depend on, such as `student` or
    `teacher.sampler`."""

    def leading_steps(self, batch: int) -> int:
        """Steps of a phase of its own (a warm start) that comes before the `Trainer.images`."""
        return 0

    def enter(self, step: int) -> None:  # noqa: B027  most methods have one phase
        """Gets ready for the state that comes before step number `step` (from 0), where a run is resumed."""

    def pack(self) -> None:  # noqa: B027  most methods keep all weights as they are
        """Brings frozen weights into the type in which they are kept."""

    @property
    def samples_need_teacher(self) -> bool:
        """Whether the averaged network adapts the teacher's, whose weights must be loaded before `restore`."""
        return False

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
        """How a role is sampled, for the provenance of its metrics: `sampler`, and `ema` (None: not averaged)."""

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


def draw_path(
    context: Context,
    interpolant: Interpolant,
    time_sampler: TimeSampler,
    step: int,
    x0: Tensor | None = None,
    purpose: str = "",
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Where on the path one batch is looked at: x0 `[B, C, H, W]`, z (None where the path has none), and times `[B]`.

    A Gaussian source is drawn if x0 is not given; draws of another `purpose` are independent.
    """
    randomness, count, shape = context.randomness, context.batch, context.shape
    if x0 is None:
        x0 = randomness.normal(f"{purpose}source", step, count, shape)
    z = randomness.normal(f"{purpose}latent", step, count, shape) if interpolant.needs_z else None
    return x0, z, time_sampler.quantile(randomness.uniform(f"{purpose}time", step, count), interpolant)


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
    return Batch(images, empty_condition(context.data.conditions, count, context.device), images)


def empty_condition(fields: Sequence[Field], count: int, device: torch.device) -> Condition:
    """A condition of zeros."""
    return Condition({f.name: torch.zeros((count, *f.sizes), dtype=f.torch_dtype, device=device) for f in fields})
