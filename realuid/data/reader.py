"""One shard to samples: webdataset walks the tar, and nothing it would pass over in silence gets by here.

webdataset reads a shard that was cut between members as a shorter shard, splits keys at their first dot, and drops
members that it cannot name. A training run would never notice, so every such case is a `DataError` here.
"""

import dataclasses
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from realuid.data.index import Shard, ShardIndex, Tally
from realuid.data.location import open_folder
from realuid.errors import DataError

__all__ = ["Sample", "read_shard"]

IMAGE_KINDS = ("png", "jpg", "jpeg", "webp", "npy")
# Pillow's modes that lose nothing on the way to grey and to RGB; alpha or 16 bits would.
MODES = {1: ("1", "L"), 3: ("1", "L", "P", "RGB", "CMYK")}


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image uint8 [C, H, W] with its label and its key in the shard. The label is 0 in a set without classes."""

    key: str
    image: NDArray[np.uint8]
    label: int


def read_shard(folder: str, shard: Shard, index: ShardIndex) -> Iterator[Sample]:
    """The samples of one shard, a `.tar` or `.tar.gz` in `folder` (any fsspec URL), in their order.

    A sample is one image member (png, jpg, jpeg, webp, or npy holding uint8 [C, H, W]) and, if the set has classes, one
    `cls` member, the label in ASCII digits. Members of other kinds are passed over. The shard's checksum is compared at
    the end, so only an exhausted iterator vouches for the shard.

    Raises:
        DataError: the shard or a sample is not what the index says; the message names the shard, and the key if any.
    """
    fs, root = open_folder(folder)
    place = f"{folder}/{shard.file}"
    try:
        file = fs.open(f"{root}/{shard.file}", "rb")
    except OSError as error:
        raise DataError(f"{place} is in the index but cannot be opened: {error}") from error
    count = 0
    with file:
        tally = Tally(file)
        for members in _samples(place, tally):
            if count == shard.samples:
                raise DataError(f"{place}, sample {members['__key__']}: the index counts only {count} samples")
            yield _decode(f"{place}, sample {members['__key__']}", members, index)
            count += 1
        if count < shard.samples:
            raise DataError(f"{place} holds {count} samples, the index says {shard.samples}: is it cut short?")
        while tally.read(1 << 20):
            pass
    if (tally.bytes, tally.sha256) != (shard.bytes, shard.sha256):
        raise DataError(
            f"{place} has {tally.bytes} bytes and sha256 {tally.sha256[:12]}, "
            f"the index says {shard.bytes} and {shard.sha256[:12]}: the shard was changed or cut"
        )


def _samples(place: str, stream: Tally) -> Iterator[dict[str, Any]]:
    """The shard's members by key: {"__key__": key, kind: bytes, ...}."""
    try:
        yield from group_by_keys(_members(place, stream))
    except ValueError as error:
        raise DataError(f"{place}, member {error.args[0]}") from error  # a member that comes twice


def _members(place: str, stream: Tally) -> Iterator[dict[str, Any]]:
    """webdataset's members of one tar, with checked names."""
    last = "its start"
    try:
        for member in tar_file_expander([{"url": place, "stream": stream}]):
            if member:  # an empty one marks the end of the shard
                last = member["fname"]
                _check_name(place, last)
            yield member
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        # webdataset appends objects to the arguments; the first one holds the reason.
        reason = getattr(error, "strerror", None) or str(error.args[0]).split(" @ ")[0]
        raise DataError(f"{place} is damaged after {last}: {reason}") from error


def _check_name(place: str, name: str) -> None:
    key, kind = base_plus_ext(name)
    if key is None:
        raise DataError(f"{place}, member {name}: expected a name like KEY.png or KEY.cls")
    if "." in kind:
        raise DataError(f"{place}, member {name}: a dot in the key (it would be read as key {key}, kind {kind})")


def _decode(where: str, members: dict[str, Any], index: ShardIndex) -> Sample:
    kinds = [kind for kind in IMAGE_KINDS if kind in members]
    if len(kinds) != 1:
        found = ", ".join(kinds) or "none"
        raise DataError(f"{where}: expected one image member ({', '.join(IMAGE_KINDS)}), found {found}")
    image = _decode_npy(where, members["npy"]) if kinds == ["npy"] else _decode_image(where, members[kinds[0]], index)
    expected = (index.channels, index.image_size, index.image_size)
    if image.shape != expected:
        raise DataError(f"{where}: an image of shape {image.shape}, the index says {expected}")
    return Sample(members["__key__"], image, _decode_label(where, members, len(index.classes)))


def _decode_label(where: str, members: dict[str, Any], classes: int) -> int:
    if not classes:
        return 0
    if "cls" not in members:
        raise DataError(f"{where}: the member cls (the label) is missing")
    text = members["cls"].strip()
    if not text.isdigit() or int(text) >= classes:
        raise DataError(f"{where}: its label is {text[:20]!r}, expected 0 to {classes - 1}")
    return int(text)


def _decode_npy(where: str, data: bytes) -> NDArray[np.uint8]:
    try:
        image = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{where}: the npy member cannot be read: {error}") from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise DataError(f"{where}: the npy member is no uint8 array")
    return image


def _decode_image(where: str, data: bytes, index: ShardIndex) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            size, mode = image.size, image.mode
            right = size == (index.image_size, index.image_size) and mode in MODES.get(index.channels, ())
            if right:  # else not worth decoding: the header says enough, and may ask for any amount of memory
                pixels = np.asarray(image.convert("L" if index.channels == 1 else "RGB"))
    except Exception as error:  # Pillow's decoders raise more kinds than they document
        raise DataError(f"{where}: the image cannot be decoded: {error}") from error
    if not right:
        raise DataError(
            f"{where}: an image of {size[0]}x{size[1]} pixels in mode {mode}, the index says "
            f"{index.image_size}x{index.image_size} with {index.channels} channels"
        )
    return pixels[None] if index.channels == 1 else pixels.transpose(2, 0, 1)
