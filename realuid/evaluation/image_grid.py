"""Grids of images, enlarged without blurring."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from realuid.utils.atomic import write_atomically

__all__ = ["image_grid", "save_grid"]

SEPARATOR = 128  # grey level between the tiles and in unfilled places: seen beside black and white images alike


def image_grid(images: Tensor, columns: int, scale: int) -> Image.Image:
    """Images in reading order, each pixel drawn as scale x scale pixels, thin grey lines between the tiles.

    The lines are max(1, scale // 3) pixels wide. There is none around the whole.

    Args:
        images: uint8 [N, C, H, W], C = 1 (grey) or 3 (RGB), N >= 1.
        columns: tiles a row.

    Raises:
        ValueError: no images, another type or number of channels, or columns or scale below 1.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"a grid takes uint8 images [N, 1 or 3, H, W], not {images.dtype} {tuple(images.shape)}")
    if columns < 1 or scale < 1:
        raise ValueError(f"a grid needs columns and scale of at least 1, got {columns} and {scale}")
    images = images.cpu().repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    line = max(1, scale // 3)
    size = (channels, rows * (height + line) - line, columns * (width + line) - line)
    canvas = torch.full(size, SEPARATOR, dtype=torch.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + line), index % columns * (width + line)
        canvas[:, top : top + height, left : left + width] = image
    pixels = canvas.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def save_grid(path: Path, images: Tensor, columns: int, scale: int) -> None:
    """Write `image_grid` as a PNG file, atomically, making the folder if needed."""
    picture = image_grid(images, columns, scale)
    write_atomically(Path(path), lambda file: picture.save(file, format="PNG"))
