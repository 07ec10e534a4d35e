"""How images reach the size that a feature network wants. Published values differ by their resizing alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["bicubic", "tf1_bilinear"]


def tf1_bilinear(images: Tensor, size: int) -> Tensor:
    """float32 images `[N, C, H, W]` to `[N, C, size, size]` as TensorFlow 1 does inside the Inception graph.

    Output pixel i is read at i H / size: no half pixel, no corners aligned, no antialiasing. Rows and columns are
    interpolated in float32 in TensorFlow's order, so that the values are the same to the bit on the CPU.
    """
    images = images.float()

    def positions(count: int) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.arange(size, dtype=torch.float32, device=images.device) * torch.tensor(count / size)
        low = at.long()
        return low, (low + 1).clamp(max=count - 1), at - low

    top, bottom, down = positions(images.shape[2])
    left, right, across = positions(images.shape[3])

    def row(which: Tensor) -> Tensor:
        chosen = images[:, :, which]
        start = chosen[:, :, :, left]
        return start + (chosen[:, :, :, right] - start) * across

    upper = row(top)
    return upper + (row(bottom) - upper) * down[:, None]


def bicubic(images: Tensor, size: int) -> Tensor:
    """Images `[N, C, H, W]` in 0..255 to float32 `[N, C, size, size]`: antialiased bicubic, cut to 0..255."""
    options = {"mode": "bicubic", "align_corners": False, "antialias": True}
    return F.interpolate(images.float(), size=(size, size), **options).clamp(0, 255)  # type: ignore[arg-type]
