"""Pixels between uint8 and the networks' units."""

import torch
from torch import Tensor

__all__ = ["to_float", "to_uint8"]


def to_float(images: Tensor) -> Tensor:
    """x / 127.5 - 1: uint8 pixels in 0..255 to float32 in [-1, 1], any shape."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """x * 127.5 + 128, cut to 0..255 and truncated: floats to the nearest uint8 level, any shape.

    EDM's rounding, the inverse of `to_float`. The common (x + 1) / 2 * 255, truncated, darkens 63 of the 256 levels.
    """
    # In float32: bfloat16 cannot hold the 256 levels.
    return (images.to(torch.float32) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
