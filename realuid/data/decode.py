"""One sample's members to arrays, and what may be wrong with them."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realuid.errors import DataError

__all__ = [
    "IMAGE_KINDS",
    "DamagedSample",
    "Form",
    "Sample",
    "decode",
    "decode_image",
    "decode_label",
    "image_kind",
    "source_kind",
]

IMAGE_KINDS = ("png", "jpg", "jpeg", "webp", "npy")
FORMATS = ("PNG", "JPEG", "WEBP")  # by content: in published sets some files are misnamed
# Pillow's modes that lose nothing on the way to grey and to RGB; alpha or 16 bits would.
MODES = {1: ("1", "L"), 3: ("1", "L", "P", "RGB", "CMYK")}


class DamagedSample(DataError):
    """A sample cannot be given out. `reason` is one of: cut, missing, undecodable, size, label, name, changed,
    unreadable."""

    def __init__(self, message: str, reason: str = "undecodable") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.reason)


@dataclasses.dataclass(frozen=True)
class Form:
    """What every sample of a set must be: the shape and type of its image, its label, whether it has a source."""

    channels: int
    image_size: int
    classes: int
    pairs: bool = False
    dtype: str = "uint8"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.image_size, self.image_size


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image [C, H, W] with its label, its key in the shard, and the source image of a pair.

    The label is 0 in a set without classes.
    """

    key: str
    image: NDArray[Any]
    label: int
    source: NDArray[Any] | None = None


def image_kind(where: str, kinds: Any) -> str:
    """The kind of the member that holds the image: `png`, ..., or `target.png`, ... in a pair."""
    return _only(where, kinds, ("", "target."), "image")


def source_kind(where: str, kinds: Any) -> str:
    """The kind of the member that holds a pair's source: `source.png`, ..."""
    return _only(where, kinds, ("source.",), "source image")


def _only(where: str, kinds: Any, prefixes: tuple[str, ...], what: str) -> str:
    found = [prefix + kind for prefix in prefixes for kind in IMAGE_KINDS if prefix + kind in kinds]
    if len(found) != 1:
        expected = ", ".join(prefixes[-1] * (prefixes[0] != "") + kind for kind in IMAGE_KINDS)
        raise DamagedSample(
            f"{where}: expected one {what} member ({expected}), found {', '.join(found) or 'none'}", "missing"
        )
    return found[0]


def decode(where: str, members: Mapping[str, Any], form: Form) -> Sample:
    """The sample that a shard's members hold, by kind (`members["__key__"]` is the key).

    Raises:
        DamagedSample: it is not what `form` says; the message begins with `where`.
    """
    kind = image_kind(where, members)
    image = decode_image(where, kind, members[kind], form)
    label = decode_label(where, members.get("cls"), form.classes)
    source = None
    if form.pairs:
        kind = source_kind(where, members)
        source = decode_image(where, kind, members[kind], form)
    return Sample(members["__key__"], image, label, source)


def decode_label(where: str, data: bytes | None, classes: int) -> int:
    if not classes:
        return 0
    if data is None:
        raise DamagedSample(f"{where}: the member cls (the label) is missing", "missing")
    text = data.strip()
    if not text.isdigit() or int(text) >= classes:
        raise DamagedSample(f"{where}: its label is {text[:20]!r}, expected 0 to {classes - 1}", "label")
    return int(text)


def decode_image(where: str, kind: str, data: bytes, form: Form) -> NDArray[Any]:
    """[C, H, W] of the form's type, from the bytes of a member of this kind."""
    kind = kind.rpartition(".")[2]
    return _decode_npy(where, data, form) if kind == "npy" else _decode_pixels(where, kind, data, form)


def _decode_npy(where: str, data: bytes, form: Form) -> NDArray[Any]:
    try:
        image = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DamagedSample(f"{where}: the npy member cannot be read: {error}") from error
    if not isinstance(image, np.ndarray) or image.dtype != form.dtype:
        raise DamagedSample(f"{where}: the npy member is no {form.dtype} array", "size")
    if image.shape != form.shape:
        raise DamagedSample(f"{where}: an image of shape {image.shape}, the index says {form.shape}", "size")
    return image


def _decode_pixels(where: str, kind: str, data: bytes, form: Form) -> NDArray[np.uint8]:
    side, channels = form.image_size, form.channels
    if form.dtype != "uint8":
        raise DamagedSample(f"{where}: a {kind} image, the index says arrays of {form.dtype}", "size")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size, mode = image.size, image.mode
            right = size == (side, side) and mode in MODES.get(channels, ())
            if right:  # else not worth decoding: the header says enough, and may ask for any amount of memory
                wanted = "L" if channels == 1 else "RGB"
                pixels = np.asarray(image if mode == wanted else image.convert(wanted))
    except Exception as error:  # Pillow's decoders raise more kinds than they document
        raise DamagedSample(f"{where}: the image cannot be decoded: {error}") from error
    if not right:
        raise DamagedSample(
            f"{where}: an image of {size[0]}x{size[1]} pixels in mode {mode}, the index says "
            f"{side}x{side} with {channels} channels",
            "size",
        )
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
