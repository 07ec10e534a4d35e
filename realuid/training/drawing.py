"""What the updates of a distillation start from: sources, labels, and real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from realuid.couplings import Coupling
from realuid.data.dataset import Batch
from realuid.data.pixels import to_float
from realuid.training.procedure import Context, check_groups, empty_batch, source_images


@dataclass(frozen=True)
class Drawn:
    """What one update starts from."""

    x0: Tensor
    """Sources of the generated samples."""
    labels: Tensor
    beside: Tensor | None
    """Sources that generated samples are paired with, where they are images; None for fresh Gaussian noise."""
    real: tuple[Tensor, Tensor] | None
    """Real images in [-1, 1] and their labels, if there are any."""


class Drawing:
    """Draws for every micro-batch of a process.

    Args:
        coupling: says where sources come from.
        real_batch: real images of an update, of all processes.
    """

    def __init__(self, coupling: Coupling, real_batch: int) -> None:
        self.coupling, self.real_batch = coupling, real_batch
        self._rows: dict[tuple[range, int, torch.device], Tensor] = {}

    def check(self, context: Context) -> None:
        """Refuses batches that do not divide.

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

    def draw(self, context: Context, substep: int, fake_step: int | None = None) -> list[Drawn]:
        """What an update starts from, for each micro-batch.

        Args:
            substep: number of the update, of either network.
            fake_step: number of the update among those that use real images; None for one that does not.
        """
        wants_real = fake_step is not None
        if not self.coupling.gaussian_source:
            batches = context.read(substep * context.batch, context.batch)
            return [self._beside_data(s, b, wants_real) for s, b in zip(context.shares(), batches, strict=True)]
        real: Sequence[Batch | None] = [None] * context.parts
        if fake_step is not None:
            real = context.read(fake_step * self.real_batch, self.real_batch)
        return [
            Drawn(
                x0=share.randomness.normal("generator", substep, share.batch, share.shape),
                labels=share.randomness.labels("label", substep, share.batch, share.frequencies),
                beside=None,
                real=None if batch is None else (to_float(batch.images), batch.labels),
            )
            for share, batch in zip(context.shares(), real, strict=True)
        ]

    def empty(self, context: Context, wants_real: bool) -> Drawn:
        """Draws of the right shapes, for counting costs."""
        made = empty_batch(context, context.batch)
        if not self.coupling.gaussian_source:
            return self._beside_data(context, made, wants_real)
        real = empty_batch(context, self.real_batch)
        return Drawn(
            to_float(made.images), made.labels, None, (to_float(real.images), real.labels) if wants_real else None
        )

    def real_rows(self, context: Context) -> Tensor:
        """The first rows of each lane of a micro-batch, beside whose generated samples real ones are put."""
        own, count = context.randomness.own, len(context.randomness.rows(context.batch))
        if (key := (own, count, context.device)) not in self._rows:
            rows = torch.arange(count, device=context.device).view(len(own), -1)
            self._rows[key] = rows[:, : self.real_batch // context.randomness.lanes].flatten()
        return self._rows[key]

    @property
    def _exchanges(self) -> bool:
        """Whether generated samples meet source images other than those they were made from."""
        return not (self.coupling.gaussian_source or self.coupling.keeps_source)

    def _beside_data(self, context: Context, batch: Batch, wants_real: bool) -> Drawn:
        """Sources and their labels come with the data, and so do the real images beside them."""
        x0, rows = source_images(batch), self.real_rows(context)
        real = (to_float(batch.images[rows]), batch.labels[rows]) if wants_real else None
        return Drawn(x0, batch.labels, self._others(context, x0) if self._exchanges else x0, real)

    def _others(self, context: Context, x0: Tensor) -> Tensor:
        """Every sample's neighbour's source, within its lane: independent of the sample's own."""
        lanes = len(context.randomness.own)
        return x0.view(lanes, -1, *x0.shape[1:]).roll(1, dims=1).view_as(x0)
