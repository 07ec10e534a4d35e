"""Pixels as data sets store them, and values as networks see them."""

import torch
from torch import Tensor

__all__ = ["to_float", "to_uint8"]


def to_float(images: Tensor) -> Tensor:
    """A batch's images or sources in the model's units, float32 of any shape.

    uint8 pixels in 0..255 become x / 127.5 - 1, in [-1, 1]. Floats (latents) are in the model's units already.
    """
    values = images.to(torch.float32)
    return values if images.is_floating_point() else values / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """x * 127.5 + 128, cut to 0..255 and truncated: floats to the nearest uint8 level, any shape.

    EDM's rounding, the inverse of `to_float` for pixels. The common (x + 1) / 2 * 255, truncated, darkens 63 of the 256
    levels.
    """
    # In float32: bfloat16 cannot hold the 256 levels.
    return (images.to(torch.float32) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
