"""What an update of a distillation starts from, and the points of the path that its networks are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.data.dataset import Batch
from realuid.data.pixels import to_float
from realuid.losses import DistillationLoss, Terms
from realuid.models.matching import PosteriorMean
from realuid.paths.interpolants import Coefficients
from realuid.paths.targets import Target
from realuid.paths.time_samplers import TimeSampler
from realuid.paths.weights import Weight
from realuid.training.method import Context, check_groups, draw_path, empty_batch, source_images


@dataclass(frozen=True)
class StepInputs:
    """What one update starts from; of one micro-batch."""

    x0: Tensor
    """Sources of the generated samples."""
    condition: Condition
    """Of the generated samples."""
    partners: Tensor | None
    """Sources that the generated samples are paired with on the path; None for fresh Gaussian noise."""
    real: tuple[Tensor, Condition] | None
    """Real images in the model's units and their conditions, if there are any."""
    sample: int
    """Number of the batch of generated samples, through the run: whatever the student draws is keyed by it."""
    read: Batch | None = None
    """What the sources were read with; None where they are noise."""
    turn: int = 0
    """How many updates saw these generated samples before."""


@dataclass(frozen=True)
class PathPoints:
    """Generated samples seen on the path and, after them, real ones if there are any: one batch for each network."""

    x_t: Tensor
    k: Coefficients
    """Of the path at their times."""
    condition: Condition
    x0: Tensor
    target: Tensor
    """The sampled target c."""
    weight: Tensor
    sizes: list[int]
    """How many samples are generated and, if any, real."""

    def predicted(self, model: PosteriorMean, target: Target) -> Tensor:
        """The prediction of a model on this path at every point, in one forward pass."""
        return model.predict_at(self.k, self.x_t, self.condition, target, self.x0)

    def parts(self) -> list[PathPoints]:
        """The generated and, if any, the real points, by themselves."""
        ends = list(accumulate(self.sizes))
        rows = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        return [
            PathPoints(
                x_t=self.x_t[part],
                k=self.k.take(part),
                condition=self.condition.take(part),
                x0=self.x0[part],
                target=self.target[part],
                weight=self.weight[part],
                sizes=[size],
            )
            for part, size in zip(rows, self.sizes, strict=True)
        ]

    def teacher_of_fake_step(self, teacher: PosteriorMean, loss: DistillationLoss) -> list[Tensor | None]:
        """f* of the generated and, if any, of the real points, where the loss reads it in a fake step."""
        if not loss.fake_step_needs_teacher:
            return [None] * len(self.sizes)
        if loss.fake_step_needs_generated_teacher:
            return list(self.predicted(teacher, loss.target).split(self.sizes))
        return [None, *(part.predicted(teacher, loss.target) for part in self.parts()[1:])]

    def terms(self, fake: Tensor, teachers: Sequence[Tensor | None]) -> list[Terms]:
        """What a loss sees of the generated and, if any, of the real samples: f at all points, f* of each part."""
        return [
            Terms(fake=f, target=part.target, weight=part.weight, teacher=f_star, x_t=part.x_t, k=part.k)
            for part, f, f_star in zip(self.parts(), fake.split(self.sizes), teachers, strict=True)
        ]


class InputSampler:
    """Draws what updates start from, and puts samples on the path.

    Args:
        model: the teacher; its interpolant is the path, its coupling pairs sources and data.
        target: of which the sampled target c is computed.
        real_batch: real images of an update, of all processes.
    """

    def __init__(self, model: PosteriorMean, target: Target, real_batch: int) -> None:
        self.path, self.coupling, self.target, self.real_batch = model.interpolant, model.coupling, target, real_batch

    def check(self, context: Context) -> None:
        """Refuses batches that do not divide, and data without what is asked of them.

        Raises:
            ValueError: naming the numbers.
        """
        if self.real_batch > context.batch:
            raise ValueError(
                f"Distillation.real_batch = {self.real_batch} must be at most the batch of {context.batch}"
            )
        check_groups(context, self.coupling, batch=context.batch, real_batch=self.real_batch)
        if self._exchanges and context.batch < 2 * context.randomness.lanes:
            raise ValueError("unpaired source images are exchanged within a lane: it must hold two samples or more")

    def draw(
        self, context: Context, sample: int, real_step: int | None = None, place: int | None = None
    ) -> list[StepInputs]:
        """The inputs of an update that sees new generated samples, for each micro-batch.

        Args:
            context: of this process.
            sample: number of the batch of generated samples, of the updates of either network.
            real_step: number of the update among those that use real images of the set; None for one that does not.
            place: number of the batch among those that are read from the set; None for `sample`.
        """
        place = sample if place is None else place
        if not self.coupling.gaussian_source:
            batches = context.read(place * context.batch, context.batch)
            wants_real = real_step is not None
            return [
                self._from_data(share, sample, batch, wants_real)
                for share, batch in zip(context.shares(), batches, strict=True)
            ]
        return [
            StepInputs(
                x0=share.randomness.normal("generator", sample, share.batch, share.shape),
                condition=share.drawn_condition(sample, place),
                partners=None,
                real=real,
                sample=sample,
            )
            for share, real in zip(context.shares(), self._real(context, real_step), strict=True)
        ]

    def again(self, context: Context, before: Sequence[StepInputs], real_step: int | None = None) -> list[StepInputs]:
        """The inputs of an update that sees the generated samples of the one before, beside other real images.

        Where sources come with the data, nothing is read: the real images are the next ones of what was, and after the
        last the first again.

        Args:
            context: of this process.
            before: the inputs of the update before, of each micro-batch.
            real_step: see `draw`.
        """
        if self.coupling.gaussian_source:
            real = self._real(context, real_step)
            return [replace(inputs, real=r, turn=inputs.turn + 1) for inputs, r in zip(before, real, strict=True)]
        after = []
        for share, inputs in zip(context.shares(), before, strict=True):
            assert inputs.read is not None, "sources that come with the data were read"
            after.append(self._from_data(share, inputs.sample, inputs.read, real_step is not None, inputs.turn + 1))
        return after

    def _real(self, context: Context, real_step: int | None) -> Sequence[tuple[Tensor, Condition] | None]:
        """The real images of an update beside samples made of noise, for each micro-batch."""
        if real_step is None:
            return [None] * context.parts
        batches = context.read(real_step * self.real_batch, self.real_batch)
        return [(to_float(batch.images), batch.condition) for batch in batches]

    def empty(self, context: Context, wants_real: bool) -> StepInputs:
        """Inputs of the right shapes, for counting costs."""
        batch = empty_batch(context, context.batch)
        if not self.coupling.gaussian_source:
            return self._from_data(context, 0, batch, wants_real)
        real = empty_batch(context, self.real_batch)
        told = (to_float(real.images), real.condition) if wants_real else None
        return StepInputs(to_float(batch.images), batch.condition, None, told, sample=0)

    def points(
        self,
        context: Context,
        substep: int,
        inputs: StepInputs,
        x1: Tensor,
        time_sampler: TimeSampler,
        weight: Weight,
        purpose: str = "",
    ) -> PathPoints:
        """Generated samples on the path and, if some were drawn, real ones at the same times with the same noise.

        Args:
            context: of the micro-batch.
            substep: number of the update, of either network.
            inputs: what the generated samples were made from, and the real ones.
            x1: the generated samples `[B, C, H, W]`.
            time_sampler: of the times.
            weight: w(t).
            purpose: draws of another purpose are independent.
        """
        condition, sizes = inputs.condition, [len(x1)]
        x0, z, t = draw_path(context, self.path, time_sampler, substep, inputs.partners, purpose)
        if inputs.real is not None:
            real, real_condition = inputs.real
            rows, sources = self._real_rows(context, inputs.turn), x0 if inputs.partners is None else inputs.x0
            x0, t = torch.cat([x0, sources[rows]]), torch.cat([t, t[rows]])
            z = None if z is None else torch.cat([z, z[rows]])
            x1, condition = torch.cat([x1, real]), Condition.cat([condition, real_condition])
            sizes.append(len(real))
        x0, k = self.coupling.pair(x0, x1, condition), self.path.at(t)
        return PathPoints(
            x_t=self.path.interpolate(k, x0, x1, z),
            k=k,
            condition=condition,
            x0=x0,
            target=self.target.sample(k, x0, x1, z),
            weight=weight(k),
            sizes=sizes,
        )

    def _real_rows(self, context: Context, turn: int = 0) -> Tensor:
        """Rows of the generated samples whose times and noise the real samples share: the first of each lane. Where
        sources come with the data these are also the rows that are read as real, and every turn takes the next ones."""
        own, count = context.randomness.own, len(context.randomness.rows(context.batch))
        turn = 0 if self.coupling.gaussian_source else turn
        return _rows(len(own), count, self.real_batch // context.randomness.lanes, turn, context.device)

    @property
    def _exchanges(self) -> bool:
        """Whether generated samples meet source images other than those they were made from."""
        return not (self.coupling.gaussian_source or self.coupling.keeps_source)

    def _from_data(self, context: Context, sample: int, batch: Batch, wants_real: bool, turn: int = 0) -> StepInputs:
        """Sources and conditions come with the data, and so do the real images beside them."""
        x0 = source_images(batch)
        real = batch.take(self._real_rows(context, turn)) if wants_real else None
        return StepInputs(
            x0=x0,
            condition=batch.condition,
            partners=self._exchanged(context, x0) if self._exchanges else x0,
            real=None if real is None else (to_float(real.images), real.condition),
            sample=sample,
            read=batch,
            turn=turn,
        )

    def _exchanged(self, context: Context, x0: Tensor) -> Tensor:
        """Every sample's neighbour's source, within its lane: independent of the sample's own."""
        lanes = len(context.randomness.own)
        return x0.view(lanes, -1, *x0.shape[1:]).roll(1, dims=1).view_as(x0)


@cache
def _rows(lanes: int, count: int, share: int, turn: int, device: torch.device) -> Tensor:
    """So many rows of each lane of `count` rows, in the first turn the first ones, then the next. Cached: a copy to the
    device in every step is slow."""
    size = count // lanes
    chosen = (turn * share + torch.arange(share, device=device)) % size
    return (torch.arange(lanes, device=device)[:, None] * size + chosen).flatten()
