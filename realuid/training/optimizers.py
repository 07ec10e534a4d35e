"""Optimisers and their learning rates, in images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["Adam", "ConstantRate", "CosineRate"]


class Rate(ABC):
    """A learning-rate factor as a function of the images trained on."""

    @abstractmethod
    def __call__(self, images: int) -> float:
        """Factor in [0, 1] for the step that starts after `images` images."""


def _warm_up(images: int, length: int) -> float:
    return min(1.0, (images + 1) / length) if length else 1.0


class ConstantRate(Rate):
    """Linear warm-up, then constant.

    Args:
        warm_up: length of the warm-up in images (the paper: 500 steps).
    """

    def __init__(self, *, warm_up: int = 0) -> None:
        self.warm_up = warm_up

    def __call__(self, images: int) -> float:
        return _warm_up(images, self.warm_up)


class CosineRate(Rate):
    """Linear warm-up, then a half cosine down to `last`.

    Args:
        images: where the cosine ends, in images.
        warm_up: length of the warm-up in images.
        last: factor at the end and after it.

    Raises:
        ValueError: if the warm-up is not shorter than `images`.
    """

    def __init__(self, *, images: int, warm_up: int = 0, last: float = 0.0) -> None:
        if not 0 <= warm_up < images:
            raise ValueError(f"0 <= warm_up < images is needed, got warm_up = {warm_up}, images = {images}")
        self.images, self.warm_up, self.last = images, warm_up, last

    def __call__(self, images: int) -> float:
        done = min(1.0, images / self.images)
        cosine = self.last + (1 - self.last) * (1 + math.cos(math.pi * done)) / 2
        return _warm_up(images, self.warm_up) * cosine


class Adam:
    """torch's AdamW, fused where the device has it, with clipping of the gradient's norm.

    Args:
        lr: learning rate.
        rate: its factor over the run.
        betas: decays of the first and second moments; distillation wants beta1 = 0.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        clip: largest norm of the gradient.

    Raises:
        ValueError: if `lr` or `clip` is not positive, or a beta leaves [0, 1).
    """

    def __init__(
        self,
        *,
        lr: float,
        rate: Rate,
        betas: tuple[float, float] = (0.0, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip: float = 1.0,
    ) -> None:
        if lr <= 0 or clip <= 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr and clip must be positive and betas in [0, 1), got {lr}, {clip} and {betas}")
        self.lr, self.rate, self.clip = lr, rate, clip
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def attach(self, parameters: Iterable[nn.Parameter]) -> None:
        """Creates the optimiser of these parameters."""
        self.parameters = list(parameters)
        beta1, beta2 = self.betas
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.lr, betas=(beta1, beta2), eps=self.eps, weight_decay=self.weight_decay, fused=True
        )

    def step(self, images: int) -> torch.Tensor:
        """One update from the gradients, which are then dropped.

        Args:
            images: images trained on so far; sets the learning rate.

        Returns:
            The gradient's norm before clipping, a scalar tensor on the device.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * self.rate(images)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.optimizer.load_state_dict(state)
