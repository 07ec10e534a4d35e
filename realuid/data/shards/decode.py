"""One sample's members to arrays, and what may be wrong with them."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realuid.conditions import Field
from realuid.conditions.caption import Caption
from realuid.data.pictures import Unfit, flat, opened, upright
from realuid.utils.arrays import npy
from realuid.utils.errors import DataError
from realuid.utils.remote import first_line

__all__ = [
    "FIELD",
    "IMAGE_KINDS",
    "DamagedSample",
    "Form",
    "Sample",
    "check_fields",
    "decode",
    "decode_field",
    "decode_image",
    "decode_label",
    "image_kind",
    "source_kind",
    "stored_dtype",
]

FIELD = re.compile("[a-z][a-z_]*")
"""Names of condition fields."""
RESERVED = ("label", "source", "target", "caption")
IMAGE_KINDS = ("png", "jpg", "jpeg", "webp", "npy")
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
    """What every sample of a set must be.

    shape: of its image, (C, H, W); None for a set of conditions without images.
    classes: number of class labels; 0 for none.
    pairs: whether it has a source image.
    dtype: of arrays in the place of images.
    conditions: the fields beside the label, each in a member of its own, `KEY.<name>.npy`.
    caption: the field that holds the caption, from `KEY.txt` or `KEY.json`; None if it is not read.
    """

    shape: tuple[int, int, int] | None
    classes: int
    pairs: bool = False
    dtype: str = "uint8"
    conditions: tuple[Field, ...] = ()
    caption: Caption | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields beside the label."""
        return self.conditions if self.caption is None else (*self.conditions, self.caption)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sample: its key in the shard, its image [C, H, W], label, source image of a pair, and fields by name.

    The label is 0 in a set without classes, the image None in one without images.
    """

    key: str
    image: NDArray[Any] | None
    label: int
    source: NDArray[Any] | None = None
    fields: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)


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


def decode(where: str, members: Mapping[str, Any], form: Form, *, label: int) -> Sample:
    """The sample that a shard's members hold, by kind (`members["__key__"]` is the key).

    Raises:
        DamagedSample: it is not what `form` says; the message begins with `where`.
    """
    image = source = None
    if form.shape is not None:
        kind = image_kind(where, members)
        image = decode_image(where, kind, members[kind], form)
    if form.pairs:
        kind = source_kind(where, members)
        source = decode_image(where, kind, members[kind], form)
    fields = {field.name: decode_field(where, members[f"{field.name}.npy"], field) for field in form.conditions}
    if form.caption is not None:
        fields[form.caption.name] = _decode_caption(where, members["caption"], form.caption)
    return Sample(members["__key__"], image, label if form.classes else 0, source, fields)


def decode_label(where: str, data: bytes | None, classes: int) -> int:
    if not classes:
        return 0
    if data is None:
        raise DamagedSample(f"{where}: the member cls (the label) is missing", "missing")
    text = data.strip()
    if not text.isdigit() or int(text) >= classes:
        raise DamagedSample(f"{where}: its label is {text[:20]!r}, expected 0 to {classes - 1}", "label")
    return int(text)


def stored_dtype(field: Field) -> np.dtype[Any]:
    """numpy's type of a field in a shard: bfloat16, which numpy lacks, as its 16 bits. Types that another package has
    registered with numpy (ml_dtypes does) are none: what can be stored must not depend on what is imported.

    Raises:
        TypeError: if numpy itself has no such type.
    """
    dtype: np.dtype[Any] = np.dtype("uint16" if field.dtype == "bfloat16" else field.dtype)
    if dtype.isbuiltin != 1:
        raise TypeError(f"{dtype} is not numpy's own")
    return dtype


def check_fields(fields: Sequence[Field]) -> None:
    """Raises ValueError unless each field can be stored beside an image, in a member `KEY.<name>.npy` of its own."""
    names = [field.name for field in fields]
    for field in fields:
        if not FIELD.fullmatch(field.name) or field.name in RESERVED or names.count(field.name) > 1:
            raise ValueError(f"{field.name!r} is no name of a field, or stands for something else")
        if None in field.shape:
            raise ValueError(f"the field {field} has no shape of its own")
        try:
            stored_dtype(field)
        except TypeError:
            raise ValueError(f"numpy has no type to store {field}") from None


def decode_field(where: str, data: bytes, field: Field) -> NDArray[Any]:
    """The array of a condition's field, from the bytes of its npy member."""
    array = _loaded(where, f"{field.name}.npy", data)
    if array.dtype != stored_dtype(field) or array.shape != field.shape:
        raise DamagedSample(f"{where}: {field.name}.npy is {array.dtype} {list(array.shape)}, not {field}", "size")
    return array


def _decode_caption(where: str, text: str, field: Caption) -> NDArray[Any]:
    content = np.frombuffer(text.encode(), np.uint8)
    (length,) = field.sizes
    if len(content) > length:
        raise DamagedSample(
            f"{where}: its caption has {len(content)} bytes, more than Caption.length = {length}", "size"
        )
    return np.pad(content, (0, length - len(content)))


def decode_image(where: str, kind: str, data: bytes, form: Form) -> NDArray[Any]:
    """[C, H, W] of the form's type, from the bytes of a member of this kind."""
    kind = kind.rpartition(".")[2]
    return _decode_npy(where, data, form) if kind == "npy" else _decode_pixels(where, kind, data, form)


def _decode_npy(where: str, data: bytes, form: Form) -> NDArray[Any]:
    image = _loaded(where, "the npy member", data)
    if image.dtype != form.dtype:
        raise DamagedSample(f"{where}: the npy member is no {form.dtype} array", "size")
    if image.shape != form.shape:
        raise DamagedSample(f"{where}: an image of shape {image.shape}, the index says {form.shape}", "size")
    return image


def _loaded(where: str, member: str, data: bytes) -> NDArray[Any]:
    try:
        array = npy(data)
    except ValueError as error:
        raise DamagedSample(f"{where}: {member} cannot be read: {error}") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _decode_pixels(where: str, kind: str, data: bytes, form: Form) -> NDArray[np.uint8]:
    assert form.shape is not None
    channels, height, width = form.shape
    if form.dtype != "uint8":
        raise DamagedSample(f"{where}: a {kind} image, the index says arrays of {form.dtype}", "size")
    try:
        with opened(data) as image:
            size, mode = image.size, image.mode
            right = size in ((width, height), (height, width)) and mode in MODES.get(channels, ())
            if right:  # else not worth decoding: the header says enough, and may ask for any amount of memory
                seen = upright(image)
                size = seen.size
                right = size == (width, height)
                pixels = np.asarray(flat(seen, "L" if channels == 1 else "RGB"))
    except Unfit as error:
        raise DamagedSample(f"{where}: the image is not taken: {error}", "size") from error
    except Exception as error:  # Pillow's decoders raise more kinds than they document
        raise DamagedSample(f"{where}: the image cannot be decoded: {first_line(error)}") from error
    if not right:
        raise DamagedSample(
            f"{where}: an image of {size[0]}x{size[1]} pixels in mode {mode}, the index says "
            f"{width}x{height} with {channels} channels",
            "size",
        )
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
