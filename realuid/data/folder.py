"""Images that a user points at: a file, a folder of files, or shards."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from realuid.data.index import has_index
from realuid.data.location import locate
from realuid.data.memory import InMemory
from realuid.errors import DataError

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
    files = sorted(f for f in place.iterdir() if f.suffix.lower() in KINDS) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{path} holds neither shards nor images ({', '.join(KINDS)})")
    return torch.stack([_read(file, shape) for file in files])


def _read(file: Path, shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{file} cannot be read as an image: {error}") from None
    if pixels.shape[:2] != (height, width):
        raise DataError(f"{file} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the model takes {width}x{height}")
    return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy())
