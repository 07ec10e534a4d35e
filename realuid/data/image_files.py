"""Images that a user points at: a file, a folder of files, or shards."""

from pathlib import Path

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from realuid.data.memory import InMemory
from realuid.data.pictures import flat, opened, upright
from realuid.data.shards.index import has_index
from realuid.data.shards.location import locate
from realuid.utils.errors import DataError
from realuid.utils.remote import first_line

KINDS = (".png", ".jpg", ".jpeg", ".webp")


def read_images(path: str, shape: tuple[int, int, int]) -> Tensor:
    """uint8 `[N, C, H, W]`: the images of a folder in the order of their names, one image, or all of a set of shards.

    Raises:
        DataError: if there are none, or one cannot be read or is not of this shape.
    """
    if has_index(locate(path)):
        data = InMemory(path=path, shape=shape)
        data.open(seed=0, device=torch.device("cpu"))
        return data.examples(0, len(data)).images
    place = Path(path)
    there = [f for f in place.iterdir() if not f.name.startswith(".")] if place.is_dir() else [place]
    files = sorted(f for f in there if f.suffix.lower() in KINDS) if place.is_dir() else there
    if place.is_dir() and files and len(files) < len(there):
        logger.warning("{}: {} entries of other kinds are passed over", path, len(there) - len(files))
    if not files:
        raise DataError(f"{path} holds neither shards nor images ({', '.join(KINDS)})")
    return torch.stack([_read(file, shape) for file in files])


def _read(file: Path, shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    try:
        with opened(file.read_bytes()) as image:
            pixels = np.array(flat(upright(image), "L" if channels == 1 else "RGB"))
    except Exception as error:  # Pillow's decoders raise more kinds than they document
        raise DataError(f"{file} cannot be read as an image: {first_line(error)}") from None
    if pixels.shape[:2] != (height, width):
        raise DataError(f"{file} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the model takes {width}x{height}")
    return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy())
