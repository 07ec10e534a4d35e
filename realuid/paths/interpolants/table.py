"""Schedules that are given as tables."""

from __future__ import annotations

import torch
from torch import Tensor


class Table:
    """A smooth monotone function through the points of a monotone table (cubics of Fritsch & Carlson 1980).

    It has the table's values at its knots, and a continuous derivative.

    Args:
        knots: `[n]`, rising.
        values: `[n]`, monotone.
    """

    def __init__(self, knots: Tensor, values: Tensor) -> None:
        from scipy.interpolate import PchipInterpolator  # imported where needed: it is slow

        cubics = PchipInterpolator(knots.double().numpy(), values.double().numpy())
        self.knots, self.cubics = knots.double(), torch.tensor(cubics.c, dtype=torch.float64)

    def __call__(self, t: Tensor) -> Tensor:
        """Its values at t `[B]`, differentiable; the outer cubics go on beyond the ends."""
        knots, cubics = self.knots.to(t.device), self.cubics.to(t.device)
        below = torch.searchsorted(knots, t.detach().contiguous(), right=True).sub(1).clamp(0, len(knots) - 2)
        c3, c2, c1, c0 = cubics[:, below]
        h = t - knots[below]
        return c0 + h * (c1 + h * (c2 + h * c3))
