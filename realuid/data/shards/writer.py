"""Samples that are at hand to a data set of shards."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realuid.conditions import Field
from realuid.data.shards.decode import check_fields, stored_dtype
from realuid.data.shards.files import write_shard
from realuid.data.shards.index import Shard, ShardIndex, Split, has_index
from realuid.data.shards.location import open_folder, reaching
from realuid.utils.arrays import npy_file
from realuid.utils.errors import DataError

__all__ = ["NewSample", "refuse_finished", "write_shards"]


@dataclasses.dataclass(frozen=True)
class NewSample:
    """A sample to be written: an image uint8 [C, H, W] (None in a set without images), its label, its caption if it has
    one, and its fields by name, as `stored_dtype` has them."""

    image: NDArray[np.uint8] | None
    label: int = 0
    caption: str | None = None
    fields: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)


def write_shards(
    samples: Iterable[NewSample],
    dest: str,
    *,
    split: str,
    name: str,
    classes: Sequence[str],
    shape: tuple[int, int, int] | None,
    source: str,
    licence: str,
    shard_size: int,
    conditions: Sequence[Field] = (),
    encoder: Mapping[str, str] | None = None,
) -> ShardIndex:
    """Writes a data set of one split into `dest`, a folder or any fsspec URL, and returns its index.

    Args:
        samples: in the order in which they are stored. Neighbours should be of mixed classes.
        dest: where the shards and, last of all, the index go.
        classes: names in the order of the labels; without them labels are ignored.
        shape: of the images, (C, H, W); None for a set of conditions without images.
        shard_size: samples per shard; the last shard may have fewer.
        conditions: fields that every sample has beside its label.
        encoder: what made them, for the index: `{"text": "NAME CHECKSUM"}`.

    Raises:
        DataError: `dest` already holds a data set, there are no samples, or one of them is not as described.
    """
    if shape is not None and shape[0] not in (1, 3):
        raise DataError(f"images of {shape[0]} channels: PNG holds 1 (grey) or 3 (RGB)")
    try:
        check_fields(conditions)
    except ValueError as error:
        raise DataError(f"conditions: {error}") from None
    refuse_finished(dest)
    fs, root = open_folder(dest)
    with reaching(dest, "written"):
        fs.makedirs(root, exist_ok=True)

    def members(number: int, sample: NewSample) -> dict[str, Any]:
        image, label = sample.image, sample.label
        if shape is not None and (image is None or image.shape != shape or image.dtype != np.uint8):
            shown = "no image" if image is None else f"{image.dtype} {image.shape}"
            raise DataError(f"sample {number} is {shown}, expected uint8 {shape}")
        if classes and not 0 <= label < len(classes):
            raise DataError(f"sample {number} has label {label}, expected 0 to {len(classes) - 1}")
        found: dict[str, Any] = {"__key__": f"{number:09d}"}
        if shape is not None and image is not None:
            found["png"] = _encode_png(image)
        if classes:
            found["cls"] = str(int(label)).encode()
        if sample.caption is not None:
            found["txt"] = sample.caption.encode()
        return found | _field_members(number, sample, conditions)

    counts = np.zeros(len(classes), np.int64)
    shards: list[Shard] = []
    numbered = enumerate(samples)
    while chunk := list(itertools.islice(numbered, shard_size)):
        written = (members(number, sample) for number, sample in chunk)
        shard = write_shard(dest, f"{split}-{len(shards):06d}.tar", written)
        for _, sample in chunk if classes else ():
            counts[sample.label] += 1
        shards.append(shard)
    if not shards:
        raise DataError(f"no samples to write into {dest}")
    index = ShardIndex(
        name=name,
        image_size=None if shape is None else shape[1:],
        channels=None if shape is None else shape[0],
        classes=tuple(classes),
        format="WebDataset tar: "
        + " + ".join(
            ["%09d.png"] * (shape is not None)
            + ["%09d.cls (ascii int)"] * bool(classes)
            + [f"%09d.{field.name}.npy" for field in conditions]
        ),
        source=source,
        licence=licence,
        splits={split: Split(tuple(shards), tuple(counts.tolist()) if classes else None)},
        conditions=tuple(conditions),
        encoder=encoder or {},
    )
    index.write(dest)
    return index


def refuse_finished(dest: str) -> None:
    """Raises DataError if a place holds a data set already."""
    if has_index(dest):
        raise DataError(f"{dest} already holds a data set and is left alone: choose another place, or remove it first")


def _field_members(number: int, sample: NewSample, conditions: Sequence[Field]) -> dict[str, bytes]:
    found = {}
    for field in conditions:
        array = sample.fields.get(field.name)
        if array is None or array.shape != field.shape or array.dtype != stored_dtype(field):
            shown = "no such field" if array is None else f"{array.dtype} {list(array.shape)}"
            raise DataError(f"sample {number}: expected {field}, got {shown}")
        found[f"{field.name}.npy"] = npy_file(array)
    return found


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, format="PNG")
    return file.getvalue()
