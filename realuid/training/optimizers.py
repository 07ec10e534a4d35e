"""Optimisers and their learning rates, in images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from realuid.training.parallelism import whole
from realuid.utils.adamw import AdamW

__all__ = ["Adam", "ConstantLR", "CosineLR"]

MEMORY = 0.99
"""Decay of the running mean of the gradient's norm."""


class LRSchedule(ABC):
    """A learning-rate factor as a function of the images trained on."""

    @abstractmethod
    def __call__(self, images: int) -> float:
        """Factor in [0, 1] for the step that starts after `images` images."""

    def check(self, images: int) -> None:  # noqa: B027  most schedules last for ever
        """Makes sure that the schedule lasts for a run of so many images.

        Raises:
            ValueError: if its factor is zero before the end.
        """


def _warm_up(images: int, length: int) -> float:
    return min(1.0, (images + 1) / length) if length else 1.0


class ConstantLR(LRSchedule):
    """Linear warm-up, then constant.

    Args:
        warm_up: length of the warm-up in images (the paper: 500 steps).
    """

    def __init__(self, *, warm_up: int = 0) -> None:
        self.warm_up = warm_up

    def __call__(self, images: int) -> float:
        return _warm_up(images, self.warm_up)


class CosineLR(LRSchedule):
    """Linear warm-up, then a half cosine down to `last`.

    Args:
        images: where the cosine ends, in images.
        warm_up: length of the warm-up in images.
        last: factor at the end and after it.

    Raises:
        ValueError: if the warm-up is not shorter than `images`, or `last` leaves [0, 1].
    """

    def __init__(self, *, images: int, warm_up: int = 0, last: float = 0.0) -> None:
        if not 0 <= warm_up < images:
            raise ValueError(f"0 <= warm_up < images is needed, got warm_up = {warm_up}, images = {images}")
        if not 0 <= last <= 1:
            raise ValueError(f"last is a factor in [0, 1], got {last}")
        self.images, self.warm_up, self.last = images, warm_up, last

    def check(self, images: int) -> None:
        if self.last == 0 and images > self.images:
            raise ValueError(
                f"CosineLR.images = {self.images} ends before Trainer.images = {images}: the learning rate would be "
                "zero for the rest; bind both to the same number, or CosineLR.last"
            )

    def __call__(self, images: int) -> float:
        done = min(1.0, images / self.images)
        cosine = self.last + (1 - self.last) * (1 + math.cos(math.pi * done)) / 2
        return _warm_up(images, self.warm_up) * cosine


class Adam:
    """torch's AdamW, fused where the device has it, with clipping of the gradient's norm.

    An update whose gradient is not finite, or far larger than usual, is left out on the device: weights and moments
    stay as they are, and it is counted.

    Args:
        lr: learning rate.
        lr_schedule: factor of the learning rate over the run.
        betas: decays of the first and second moments; distillation wants beta1 = 0.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        clip: largest norm of the gradient.
        spike: an update is also left out if the norm is more than this many times its running mean; None for never.

    Raises:
        ValueError: if `lr`, `clip` or `eps` is not positive or `lr` infinite, `weight_decay` is negative, a beta leaves
            [0, 1), or `spike` is at most 1.
    """

    def __init__(
        self,
        *,
        lr: float,
        lr_schedule: LRSchedule,
        betas: tuple[float, float] = (0.0, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip: float = 1.0,
        spike: float | None = None,
    ) -> None:
        if lr <= 0 or clip <= 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr and clip must be positive and betas in [0, 1), got {lr}, {clip} and {betas}")
        if not math.isfinite(lr) or eps <= 0 or weight_decay < 0:
            raise ValueError(
                f"lr must be finite, eps positive and weight_decay not negative, got {lr}, {eps} and {weight_decay}"
            )
        if spike is not None and spike <= 1:
            raise ValueError(f"spike must be more than 1, got {spike}")
        self.lr, self.lr_schedule, self.clip, self.spike = lr, lr_schedule, clip, spike
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    bytes_a_weight: float = 8
    """What the optimiser keeps of each weight: two moments."""

    def attach(self, parameters: Iterable[nn.Parameter]) -> None:
        """Creates the optimiser of these parameters."""
        self.parameters = list(parameters)
        self.optimizer = self._made()
        zero = torch.zeros((), dtype=torch.float32, device=self.parameters[0].device)
        self.skipped, self.in_a_row, self.usual = zero.clone(), zero.clone(), zero.clone()
        """Updates left out, all and the latest ones in a row; running mean of the norm of the others, 0 before them."""

    def _made(self) -> torch.optim.Optimizer:
        return AdamW(
            self.parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )

    @torch.no_grad()
    def step(self, images: int) -> Tensor:
        """One update from the gradients, which are then dropped.

        Args:
            images: images trained on so far; sets the learning rate.

        Returns:
            The gradient's norm before clipping, over all processes, a scalar tensor on the device.
        """
        norm = whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True))
        bad = self._left_out(norm)
        self._update(self.lr * self.lr_schedule(images), bad)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _update(self, lr: float, left_out: Tensor) -> None:
        """Moves the weights, unless `left_out` is 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.found_inf = left_out  # type: ignore[attr-defined]  # how torch's gradient scaler leaves one out
        self.optimizer.step()

    def _left_out(self, norm: Tensor) -> Tensor:
        """1 if the update is to be left out, else 0; counted, without a look from the host."""
        bad = ~torch.isfinite(norm)
        if self.spike is not None:
            bad |= (self.usual > 0) & (norm > self.spike * self.usual)
        left_out = bad.float()
        self.skipped += left_out
        self.in_a_row = (self.in_a_row + left_out) * left_out
        mean = torch.where(self.usual > 0, torch.lerp(self.usual, norm.float(), 1 - MEMORY), norm.float())
        self.usual = torch.where(bad, self.usual, mean)
        return left_out

    def state_dict(self) -> dict:
        """torch's, and what is known of the gradient's norm."""
        return {
            **self.optimizer.state_dict(),
            "norm": {"skipped": self.skipped, "in_a_row": self.in_a_row, "usual": self.usual},
        }

    def load_state_dict(self, state: dict) -> None:
        norm = state["norm"]
        self.skipped, self.in_a_row, self.usual = norm["skipped"], norm["in_a_row"], norm["usual"]
        self.optimizer.load_state_dict({key: value for key, value in state.items() if key != "norm"})

    @torch.no_grad()
    def materialise(self) -> None:
        """Makes torch's optimiser have the state that it would make in its first step: something to load into."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._update(0.0, torch.zeros_like(self.skipped))
        self.optimizer.zero_grad(set_to_none=True)
