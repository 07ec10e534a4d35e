"""Embeddings of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal(time: Tensor, width: int, max_period: float = 10_000.0, endpoint: bool = False) -> Tensor:
    """Cosines and sines of `time` `[B]` at geometric frequencies from 1 to 1 / max_period: `[B, width]` (2006.11239).

    The frequencies and the order (cosines first) are those of guided-diffusion, whose weights expect them; with
    `endpoint` the last frequency is 1 / max_period itself, as in Ho et al.'s own code.
    """
    half = width // 2
    # Rounded in the order of the peers' code: at times of a thousand another order moves the angles by 1e-4.
    logarithms = -math.log(max_period) * torch.arange(half, device=time.device, dtype=torch.float32)
    angles = time.float()[:, None] * torch.exp(logarithms / (half - endpoint))
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(time.dtype)
