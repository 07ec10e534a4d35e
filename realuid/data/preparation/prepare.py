"""From a sample as it was found to the members of a shard: cropped, resized, encoded."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image

from realuid.data.pictures import FORMATS as PICTURES
from realuid.data.pictures import Animation, Unfit, flat, opened, upright
from realuid.data.sources.base import Damaged, Picture, Raw
from realuid.utils.arrays import npy, npy_file
from realuid.utils.errors import DataError
from realuid.utils.remote import first_line

__all__ = ["FILTERS", "FORMATS", "Preparation"]

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
}
FORMATS = ("keep", "png", "jpg", "webp", "npy")
ARRAYS = ("uint8", "float16", "float32")
STORED = {"L": ("1", "L"), "RGB": ("1", "L", "P", "RGB", "CMYK")}
"""Pillow's modes that readers of grey and of coloured sets take as they are."""
MOST_CHANNELS = 16
"""More than latents have that are stored with their channels last."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How samples become members.

    Attributes:
        resolution: (height, width) in pixels; None keeps that of the images.
        crop: "none"; "centre", the largest rectangle of the resolution's shape in the middle, without one the largest
            square; (height, width), the rectangle of that size in the middle; or "adm", the halving by box, bicubic
            resizing and cropping with which ImageNet is prepared for ADM and EDM.
        filter: of resizing, one of FILTERS; "adm" has its own.
        format: one of FORMATS; "keep" leaves files that need no change as they are and writes PNG otherwise.
        quality: of jpg.
        grey: one channel instead of three.
        background: what transparent images are put on; None refuses them.

    Raises:
        ValueError: "adm" with a resolution that is not square.
    """

    resolution: tuple[int, int] | None = None
    crop: str | tuple[int, int] = "none"
    filter: str = "lanczos"
    format: str = "keep"
    quality: int = 95
    grey: bool = False
    background: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.crop == "adm" and self.resolution is not None and self.resolution[0] != self.resolution[1]:
            raise ValueError("the preparation of ADM gives squares")

    def members(self, raw: Raw, key: str, labels: bool) -> tuple[dict[str, Any], tuple[int, ...], str]:
        """The members of a sample by kind, with the shape [C, H, W], () without an image, and the dtype of its image.

        Raises:
            Damaged: the sample cannot be decoded.
            DataError: it would lose something, or is of another shape than asked for; either line names it.
        """
        members: dict[str, Any] = {"__key__": key}
        shape: tuple[int, ...] = ()
        dtype = "uint8"
        if raw.image is not None:
            kind, data, shape, dtype = self._one(raw.name, raw.image, raw.half)
            members[kind] = data
        if labels:
            members["cls"] = str(raw.label).encode()
        if raw.source is not None:
            other = None if raw.half is None else {"left": "right", "right": "left"}[raw.half]
            kind, data, paired, _ = self._one(raw.name, raw.source, other)
            if paired != shape:
                raise DataError(f"{raw.name}: the image is {shape}, its source {paired}")
            members[f"source.{kind}"] = data
        return members | dict(raw.extras), shape, dtype

    def _one(self, name: str, found: Picture, half: str | None) -> tuple[str, bytes, tuple[int, ...], str]:
        """Kind, bytes, shape and dtype of an image or of one of its halves."""
        if isinstance(found, tuple) and found[0] == "npy":
            return self._array(name, found[1])
        wanted = "L" if self.grey else "RGB"
        if isinstance(found, tuple):
            original, stored, image = self._opened(name, found[1], wanted)
        else:
            original, stored = None, False
            image = _coloured(Image.fromarray(found[0] if len(found) == 1 else found.transpose(1, 2, 0)), wanted)
        if half is not None:
            middle, stored = image.width // 2, False
            left, right = (0, middle) if half == "left" else (middle, image.width)
            image = image.crop((left, 0, right, image.height))
        fitted = self._fitted(name, image)
        shape = (1 if self.grey else 3, fitted.height, fitted.width)
        if stored and fitted is image and original is not None and self.format in ("keep", original):
            assert isinstance(found, tuple)
            return original, found[1], shape, "uint8"  # encoding a JPEG again would only lose
        kind = "png" if self.format == "keep" else self.format
        return kind, _encoded(fitted, kind, self.quality), shape, "uint8"

    def _opened(self, name: str, data: bytes, wanted: str) -> tuple[str, bool, Image.Image]:
        """The kind of a file, whether readers take it as it is, and its picture in the wanted mode."""
        try:
            image = opened(data)
            seen = upright(image)
            picture = flat(seen, wanted, self.background)
        except Animation as error:
            raise Damaged(f"{name} is not taken: {error}") from None
        except Unfit as error:
            raise DataError(f"{name} is not taken: {error}") from None
        except Exception as error:  # Pillow's decoders raise more kinds than they document
            raise Damaged(f"{name} cannot be decoded: {first_line(error)}") from error
        stored = seen is image and image.mode in STORED[wanted] and not image.has_transparency_data
        return PICTURES[str(image.format)], stored, picture

    def _array(self, name: str, data: bytes) -> tuple[str, bytes, tuple[int, ...], str]:
        """Latents, and images that are arrays already, stay what they are."""
        try:
            array = npy(data)
        except ValueError as error:
            raise Damaged(f"{name} cannot be read as an array: {error}") from error
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.ndim != 3 or array.dtype.name not in ARRAYS or not array.size:
            raise DataError(f"{name} is no array [C, H, W] of {', '.join(ARRAYS)}, but {array.dtype} {array.shape}")
        if _channels_last(array.shape):
            raise DataError(f"{name} has the shape {array.shape}, which looks like [H, W, C]: store it as [C, H, W]")
        if self.resolution not in (None, array.shape[1:]) or self.crop != "none":
            raise DataError(f"{name} is an array: it is stored as it is, without resizing or cropping")
        if self.format not in ("keep", "npy"):
            raise DataError(f"{name} is an array: --format npy keeps it, {self.format} would not")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{name} holds values that are not finite")
        return "npy", npy_file(array), array.shape, array.dtype.name

    def _fitted(self, name: str, image: Image.Image) -> Image.Image:
        """Cropped and resized."""
        if self.crop == "adm":
            return _adm(image, self.resolution[0] if self.resolution else min(image.size))
        if self.crop != "none":
            height, width = self._cropped(image) if isinstance(self.crop, str) else self.crop
            if height > image.height or width > image.width:
                raise DataError(f"{name} is {image.width}x{image.height}, smaller than the crop of {width}x{height}")
            if (width, height) != image.size:
                left, top = (image.width - width) // 2, (image.height - height) // 2
                image = image.crop((left, top, left + width, top + height))
        if self.resolution is None or self.resolution == (image.height, image.width):
            return image
        height, width = self.resolution
        # The middle has the resolution's shape but for the rounding to whole pixels.
        if self.crop != "centre" and image.width * height != image.height * width:
            raise DataError(
                f"{name} is {image.width}x{image.height}, not of the shape of {width}x{height}: --crop centre takes "
                "the middle"
            )
        return image.resize((width, height), FILTERS[self.filter])

    def _cropped(self, image: Image.Image) -> tuple[int, int]:
        """Height and width of the largest part that has the resolution's shape."""
        height, width = self.resolution or (1, 1)
        if image.width * height > image.height * width:
            return image.height, max(1, round(image.height * width / height))
        return max(1, round(image.width * height / width)), image.width


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an array's shape is a picture's with its few channels behind height and width."""
    first, second, last = shape
    return last <= 4 < min(first, second) or (last <= MOST_CHANNELS and first == second and last < second)


def _coloured(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _adm(image: Image.Image, side: int) -> Image.Image:
    """The preparation of Dhariwal and Nichol (arXiv 2105.05233): halve by box while it is twice too large, then bicubic
    to a shorter side of `side`, then the middle."""
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _encoded(image: Image.Image, kind: str, quality: int) -> bytes:
    file = io.BytesIO()
    if kind == "npy":
        pixels = np.asarray(image)
        return npy_file(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    if kind == "jpg":
        image.save(file, "JPEG", quality=quality, subsampling=0)
    elif kind == "webp":
        image.save(file, "WEBP", lossless=True)
    else:
        image.save(file, "PNG")
    return file.getvalue()
