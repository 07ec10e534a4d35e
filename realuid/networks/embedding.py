"""Embeddings of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal(time: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines and sines of `time` `[B]` at geometric frequencies from 1 to 1 / max_period: `[B, width]` (2006.11239).

    The frequencies and the order (cosines first) are those of guided-diffusion, whose weights expect them.
    """
    half = width // 2
    exponents = torch.arange(half, device=time.device, dtype=torch.float32) / half
    angles = time.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(time.dtype)
