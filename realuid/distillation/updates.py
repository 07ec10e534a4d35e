"""The updates of a step in their order: their numbers through the run, and which generated samples each sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from realuid.distillation.checks import check_counts
from realuid.distillation.step_inputs import InputSampler, StepInputs
from realuid.paths.couplings import Coupling
from realuid.training.method import Context

Generate = Callable[[Context, StepInputs], Tensor]
"""Generated samples x1 of a micro-batch."""


@dataclass(frozen=True)
class Updates:
    """K updates of the fake network, then one of the generator.

    Args:
        fake_steps: K.
        steps_per_sample: updates of the fake network that see the same generated samples; those of one step at most.

    Raises:
        ValueError: if one of them is below one.
    """

    fake_steps: int
    steps_per_sample: int

    def __post_init__(self) -> None:
        check_counts(fake_steps=self.fake_steps, steps_per_sample=self.steps_per_sample)

    @property
    def samples(self) -> int:
        """Batches of generated samples that the fake network's updates of one step see."""
        return -(-self.fake_steps // self.steps_per_sample)

    def of_fake(
        self, context: Context, inputs: InputSampler, generate: Generate, index: int, wants_real: bool
    ) -> Iterator[list[tuple[int, StepInputs, Tensor]]]:
        """What the fake network's objective is given in each update of step number `index`, for each micro-batch: the
        update's number, its inputs, and the generated samples, which have no gradient."""
        shares, x1, own = list[StepInputs](), list[Tensor](), index - context.elsewhere
        for k in range(self.fake_steps):
            real_step = own * self.fake_steps + k if wants_real else None
            batch, seen = divmod(k, self.steps_per_sample)
            if seen:
                shares = inputs.again(context, shares, real_step)
            else:
                sample, place = (step * (self.samples + 1) + batch for step in (index, own))
                shares = inputs.draw(context, sample, real_step, place)
                x1 = _generated(context, shares, generate)
            substep = index * (self.fake_steps + 1) + k
            yield [(substep, share, samples) for share, samples in zip(shares, x1, strict=True)]

    def of_generator(self, context: Context, inputs: InputSampler, index: int) -> list[tuple[int, StepInputs]]:
        """What the generator's objective is given in step number `index`, for each micro-batch."""
        substep = index * (self.fake_steps + 1) + self.fake_steps
        sample, place = (step * (self.samples + 1) + self.samples for step in (index, index - context.elsewhere))
        return [(substep, share) for share in inputs.draw(context, sample, place=place)]

    def passes(
        self, fake: Callable[[bool], Tensor], generator: Callable[[], Tensor]
    ) -> dict[str, tuple[int, Callable[[], Tensor]]]:
        """The kinds of updates in one step: how many of each, and its loss.

        Args:
            fake: loss of an update of the fake network, which makes its samples or sees those of another.
            generator: loss of the generator's update.
        """
        new = {"fake": (self.samples, partial(fake, True))}
        again = {"fake, again": (count, partial(fake, False))} if (count := self.fake_steps - self.samples) else {}
        return {**new, **again, "generator": (1, generator)}

    def images_read(self, batch: int, real_batch: int, coupling: Coupling) -> int:
        """Images of the data set that a step reads: those beside generated samples, or what all sources come with."""
        return self.fake_steps * real_batch if coupling.gaussian_source else (self.samples + 1) * batch


@torch.no_grad()
def _generated(context: Context, shares: Sequence[StepInputs], generate: Generate) -> list[Tensor]:
    arithmetic, x1 = context.compute.arithmetic("regression", context.device), []
    for share, inputs in zip(context.shares(), shares, strict=True):
        with arithmetic.update(), arithmetic.forward():
            x1.append(generate(share, inputs))
    return x1
