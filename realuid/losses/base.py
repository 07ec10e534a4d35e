"""What every distillation loss is given, and what the training method asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from realuid.paths.interpolants import Coefficients
from realuid.paths.targets import Target

SMALLEST = 1e-5
"""Least divisor of a normalised loss (SiD's)."""


@dataclass(frozen=True)
class Terms:
    """What a loss sees of a batch of generated or of real samples; functions are `[B, ...]` of one shape."""

    fake: Tensor
    """f at x_t."""
    target: Tensor
    """c, sampled."""
    weight: Tensor
    """w(t) `[B]`."""
    teacher: Tensor | None = None
    """f* at x_t; None in a fake step whose loss does not need it."""
    x_t: Tensor = field(kw_only=True)
    k: Coefficients = field(kw_only=True)
    """The path's coefficients at the samples' times `k.t` `[B]`: what a loss that depends on time reads."""


def inner(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted inner product: sum over all but the batch, mean over the batch; a scalar."""
    return ((x * y).flatten(1).sum(1) * weight.to(x.dtype)).mean()


def teacher_of(terms: Terms) -> Tensor:
    """f* at x_t, where the loss cannot do without."""
    assert terms.teacher is not None, "this loss needs the teacher's prediction"
    return terms.teacher


def gap(terms: Terms) -> Tensor:
    """Mean squared distance ||f* - f||^2 between teacher and fake, a scalar; with the fake at its optimum, UID's."""
    difference = (teacher_of(terms) - terms.fake).detach()
    return inner(difference, difference, torch.ones_like(terms.weight))


def omega(terms: Terms) -> Tensor:
    """Mean of |c - f*| over a sample's entries `[B]`, without gradient and at least 1e-5.

    SiD (arXiv 2404.04057) and DMD (arXiv 2311.18828) divide by it, in the data prediction.
    """
    return (terms.target - teacher_of(terms)).detach().abs().flatten(1).mean(1).clamp_min(SMALLEST)


class DistillationLoss(ABC):
    """A distillation loss: what the fake network minimises and what the generator minimises, in turns.

    Attributes:
        fake_step_needs_teacher: whether `fake_loss` reads f*, which then has to be evaluated in every fake step too.
        fake_step_needs_generated_teacher: whether it then reads f* of generated samples, too, or of real ones alone.
        uses_real_data: whether `fake_loss` wants terms of real samples; if not, they may be None.
        differentiates_networks: whether the generator's gradient flows through f* and f as functions of x_t. If not,
            both may be evaluated without autograd in the generator's step, which saves their backward passes.

    Args:
        target: the function that the loss is written in. For alpha != beta the objective depends on it.
    """

    fake_step_needs_teacher: bool = False
    fake_step_needs_generated_teacher: bool = True
    uses_real_data: bool = True
    differentiates_networks: bool = True

    def __init__(self, *, target: Target) -> None:
        self.target = target

    def at(self, images: int) -> DistillationLoss:
        """The loss after the generator was trained on so many images: itself, unless it changes over the run. What it
        declares does not change."""
        return self

    @abstractmethod
    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        """The scalar that the fake network minimises: minus the objective up to terms without f."""

    @abstractmethod
    def generator_loss(self, generated: Terms) -> Tensor:
        """The scalar that the generator minimises; gradients flow through all of `generated` that has any."""
