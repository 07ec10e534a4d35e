"""From a sample as it was found to the members of a shard: cropped, resized, encoded."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realuid.data.sources import Raw
from realuid.errors import DataError

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
KEPT = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How samples become members.

    resolution: side in pixels; None keeps that of the images.
    crop: "none"; "centre", the largest square in the middle; a number, the middle square of that side; or "adm", the
        halving by box, bicubic resizing and cropping with which ImageNet is prepared for ADM and EDM.
    filter: of resizing, one of FILTERS; "adm" has its own.
    format: one of FORMATS; "keep" leaves files that need no change as they are and writes PNG otherwise.
    quality: of jpg.
    grey: one channel instead of three.
    """

    resolution: int | None = None
    crop: str = "none"
    filter: str = "lanczos"
    format: str = "keep"
    quality: int = 95
    grey: bool = False

    def members(self, raw: Raw, key: str, labels: bool) -> tuple[dict[str, Any], tuple[int, ...], str]:
        """The members of a sample by kind, with the shape [C, H, W] and the dtype of its image.

        Raises:
            DataError: the sample cannot be decoded, would lose something, or is not square; the line names it.
        """
        kind, data, shape, dtype = self._one(raw.name, raw.image, raw.half)
        members: dict[str, Any] = {"__key__": key, kind: data}
        if labels:
            members["cls"] = str(raw.label).encode()
        if raw.source is not None:
            other = None if raw.half is None else {"left": "right", "right": "left"}[raw.half]
            kind, data, paired, _ = self._one(raw.name, raw.source, other)
            if paired != shape:
                raise DataError(f"{raw.name}: the image is {shape}, its source {paired}")
            members[f"source.{kind}"] = data
        return members, shape, dtype

    def _one(
        self, name: str, found: NDArray[np.uint8] | tuple[str, bytes], half: str | None
    ) -> tuple[str, bytes, tuple[int, ...], str]:
        original = None
        if isinstance(found, tuple):
            if found[0] == "npy":
                return self._array(name, found[1])
            image, original = _opened(name, found[1])
        else:
            image = Image.fromarray(found[0] if len(found) == 1 else found.transpose(1, 2, 0))
        mode = image.mode
        image = _flat(name, image, "L" if self.grey else "RGB")
        if half is not None:
            middle = image.width // 2
            image = image.crop(
                (0, 0, middle, image.height) if half == "left" else (middle, 0, image.width, image.height)
            )
            original = None
        cropped = self._fitted(name, image)
        shape = (1 if self.grey else 3, cropped.height, cropped.width)
        stored = mode in (("1", "L") if self.grey else ("1", "L", "P", "RGB", "CMYK"))  # what readers take as it is
        if self.format == "keep":
            if original is not None and cropped is image and stored and isinstance(found, tuple):
                return original, found[1], shape, "uint8"
            return "png", _encoded(cropped, "png", self.quality), shape, "uint8"
        if original == self.format and cropped is image and stored and isinstance(found, tuple):
            return original, found[1], shape, "uint8"  # encoding a JPEG again would only lose
        return self.format, _encoded(cropped, self.format, self.quality), shape, "uint8"

    def _array(self, name: str, data: bytes) -> tuple[str, bytes, tuple[int, ...], str]:
        """Latents, and images that are arrays already, stay what they are."""
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{name} cannot be read as an array: {error}") from error
        if (
            not isinstance(array, np.ndarray)
            or array.ndim != 3
            or array.dtype.name not in ("uint8", "float16", "float32")
        ):
            raise DataError(f"{name} is no array [C, H, W] of uint8, float16 or float32")
        if self.resolution not in (None, array.shape[1]) or self.crop != "none":
            raise DataError(f"{name} is an array: it is stored as it is, without resizing or cropping")
        if self.format not in ("keep", "npy"):
            raise DataError(f"{name} is an array: --format npy keeps it, {self.format} would not")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{name} holds values that are not finite")
        return "npy", _npy(array), array.shape, array.dtype.name

    def _fitted(self, name: str, image: Image.Image) -> Image.Image:
        if self.crop == "adm":
            return _adm(image, self.resolution or min(image.size))
        if self.crop != "none":
            side = min(image.size) if self.crop == "centre" else int(self.crop)
            if side > min(image.size):
                raise DataError(f"{name} is {image.width}x{image.height}, smaller than the crop of {side}")
            if (side, side) != image.size:
                left, top = (image.width - side) // 2, (image.height - side) // 2
                image = image.crop((left, top, left + side, top + side))
        if image.width != image.height:
            raise DataError(f"{name} is {image.width}x{image.height}, not square: --crop centre takes the middle")
        if self.resolution not in (None, image.width):
            assert self.resolution is not None
            image = image.resize((self.resolution, self.resolution), FILTERS[self.filter])
        return image


def _opened(name: str, data: bytes) -> tuple[Image.Image, str]:
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(KEPT))
        image.load()
    except Exception as error:  # Pillow's decoders raise more kinds than they document
        raise DataError(f"{name} cannot be decoded: {error}") from error
    return image, KEPT[str(image.format)]


def _flat(name: str, image: Image.Image, mode: str) -> Image.Image:
    """In grey or RGB; refuses what would lose transparency or depth unseen."""
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{name} has more than 8 bits a channel (mode {image.mode})")
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise DataError(f"{name} is transparent in places: put it on a background first")
        image = image.convert("RGBA")
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
        return _npy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    if kind == "jpg":
        image.save(file, "JPEG", quality=quality, subsampling=0)
    elif kind == "webp":
        image.save(file, "WEBP", lossless=True)
    else:
        image.save(file, "PNG")
    return file.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    return file.getvalue()
