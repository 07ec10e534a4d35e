"""Mean and covariance of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "sums"]


@dataclass(frozen=True)
class Moments:
    """Mean `[d]` and covariance `[d, d]` (of divisor n - 1) of features, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of_sums(cls, count: Tensor | int, total: Tensor, outer: Tensor) -> Moments:
        """From n, the sum of x `[d]` and the sum of x x^T `[d, d]`.

        Raises:
            ValueError: if n < 2.
        """
        n = int(count)
        if n < 2:
            raise ValueError(f"mean and covariance need at least 2 images, got {n}")
        mean = total / n
        return cls(mean, (outer - n * torch.outer(mean, mean)) / (n - 1))

    @classmethod
    def of(cls, features: Tensor, batch: int = 5000) -> Moments:
        """Of features `[n, d]`."""
        total, outer = sums(features, batch)
        return cls.of_sums(len(features), total, outer)


def sums(features: Tensor, batch: int = 5000) -> tuple[Tensor, Tensor]:
    """Sum of x `[d]` and of x x^T `[d, d]` over features `[n, d]`, in float64, a part of them at a time."""
    size = features.shape[1]
    total = torch.zeros(size, dtype=torch.float64, device=features.device)
    outer = torch.zeros(size, size, dtype=torch.float64, device=features.device)
    for part in features.split(batch):
        x = part.double()
        total += x.sum(dim=0)
        outer += x.T @ x
    return total, outer
