"""The `index.json` beside the shards: what a data set holds, and by what to tell that it is whole."""

import dataclasses
import json
import math
import re
import tarfile
import uuid
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from realuid.conditions import Field
from realuid.data.shards.decode import Form, check_fields
from realuid.data.shards.location import open_folder, reaching, read_file
from realuid.utils import budget
from realuid.utils.errors import DataError

__all__ = ["INDEX_FILE", "Shard", "ShardIndex", "Split", "check_samples", "has_index"]

INDEX_FILE = "index.json"
DTYPES = ("uint8", "float16", "float32")
SIDE = 1 << 16
"""The largest side of an image, and the largest number of its channels."""
SHA256 = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One tar file: its name in the folder, its samples, its length in bytes and its checksum in hexadecimal.

    `layout_sha256` is the checksum of the file beside it that tells where each sample lies; empty if there is none.
    """

    file: str
    samples: int
    bytes: int
    sha256: str
    layout_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a data set, such as "train".

    `labels` holds the number of samples of each class, so that labels can be drawn with the data's own frequencies
    without reading the data. It is None where the index does not say.
    """

    shards: tuple[Shard, ...]
    labels: tuple[int, ...] | None = None

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """The description of a data set.

    `image_size` is (H, W) in pixels, in the file one number for square images, and None for a set of conditions without
    images; `channels` is None where the index does not say; `classes` are the classes' names in the order of their
    labels, empty for a set without labels; `dtype` is that of `.npy` images; `conditions` are the fields of a sample
    beside its label; `encoder` says what made them: name and checksum of a text encoder, of an autoencoder, ...
    """

    name: str
    image_size: tuple[int, int] | None
    channels: int | None
    classes: tuple[str, ...]
    format: str
    source: str
    licence: str
    splits: dict[str, Split]
    dtype: str = "uint8"
    conditions: tuple[Field, ...] = ()
    encoder: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def form(self, *, channels: int = 3, pairs: bool = False) -> Form:
        """What its samples must be; `channels` counts only where the index does not say."""
        shape = None if self.image_size is None else (self.channels or channels, *self.image_size)
        return Form(shape, len(self.classes), pairs, self.dtype, self.conditions)

    @classmethod
    def read(cls, folder: str) -> "ShardIndex":
        """The index in a folder (any fsspec URL).

        Raises:
            DataError: there is none, or it does not describe a data set.
        """
        content = read_file(folder, INDEX_FILE)
        if content is None:
            raise DataError(f"{folder} holds no data set: there is no {INDEX_FILE}")
        try:
            record = budget.parsed(content, INDEX_FILE)
        except ValueError as error:
            raise DataError(f"{folder}/{error}") from error
        return _Parser(f"{folder}/{INDEX_FILE}").index(record)

    def write(self, folder: str) -> None:
        """Puts the index beside its shards, whole or not at all. To be called last: an index vouches for its shards."""
        splits = {
            name: {
                "samples": split.samples,
                **({} if split.labels is None else {"labels": split.labels}),
                "shards": [dataclasses.asdict(shard) for shard in split.shards],
            }
            for name, split in self.splits.items()
        }
        record = vars(self) | {"splits": splits}
        if self.image_size is not None and self.image_size[0] == self.image_size[1]:
            record["image_size"] = self.image_size[0]
        record["conditions"] = [dataclasses.asdict(field) for field in self.conditions]
        record = {name: value for name, value in record.items() if value or name not in ("conditions", "encoder")}
        fs, root = open_folder(folder)
        unfinished = f"{root}/{INDEX_FILE}.{uuid.uuid4().hex}.tmp"
        with reaching(f"{folder}/{INDEX_FILE}", "written"):
            fs.pipe_file(unfinished, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
            fs.mv(unfinished, f"{root}/{INDEX_FILE}")


def has_index(folder: str) -> bool:
    """Whether a folder (any fsspec URL) holds a finished data set.

    Raises:
        DataError: nobody knows: see `read_file`.
    """
    return read_file(folder, INDEX_FILE) is not None


def check_samples(place: str, samples: int, size: int) -> None:
    """Raises DataError if a shard of `size` bytes, maybe compressed, cannot hold so many samples: each takes a header
    and a block of a tar."""
    if samples * 2 * tarfile.BLOCKSIZE > budget.allowance(size):
        raise DataError(f"{place}: {samples:,} samples cannot lie in {budget.written(size)}")


class _Parser:
    """Turns parsed JSON into an index; every complaint names the file and the field."""

    def __init__(self, place: str) -> None:
        self._place = place

    def index(self, record: Any) -> ShardIndex:
        if isinstance(record, dict) and "splits" not in record and "shards" in record:
            # A set of one split, described at the top.
            split = {name: record[name] for name in ("samples", "labels", "shards") if name in record}
            record = record | {"splits": {self._take(record, "split", str, "train"): split}}
        splits = self._take(record, "splits", dict)
        classes = self._take(record, "classes", list, record.get("class_names", []))
        source = self._take(record, "source", (str, dict), "")
        channels = self._take(record, "channels", (int, type(None)))
        if channels is not None and not 1 <= channels <= SIDE:
            raise DataError(f"{self._place}: images of {channels} channels")
        dtype = self._take(record, "dtype", str, "uint8")
        if dtype not in DTYPES:
            raise DataError(f"{self._place}: dtype is {dtype!r}, not one of {', '.join(DTYPES)}")
        return ShardIndex(
            name=self._take(record, "name", str),
            image_size=self._size(record),
            channels=channels,
            classes=tuple(str(name) for name in classes),
            format=self._take(record, "format", str, ""),
            source=source if isinstance(source, str) else ", ".join(f"{k} {v}" for k, v in source.items()),
            licence=self._take(record, "licence", str, ""),
            splits={name: self._split(split, f"splits.{name}.", len(classes)) for name, split in splits.items()},
            dtype=dtype,
            conditions=self._fields(self._take(record, "conditions", list, [])),
            encoder={str(k): str(v) for k, v in self._take(record, "encoder", dict, {}).items()},
        )

    def _size(self, record: Any) -> tuple[int, int] | None:
        size = self._take(record, "image_size", (int, list, type(None)))
        sides = size if isinstance(size, list) else [size, size]
        if size is None:
            return None
        if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= SIDE for side in sides):
            raise DataError(f"{self._place}: image_size is {size!r}, not a side in pixels or [H, W]")
        return sides[0], sides[1]

    def _fields(self, records: list[Any]) -> tuple[Field, ...]:
        found = []
        for record in records:
            name, dtype = (self._take(record, key, str, prefix="conditions.") for key in ("name", "dtype"))
            shape = self._take(record, "shape", list, prefix="conditions.")
            try:
                field = Field(name, tuple(shape), dtype)
                budget.spend(field.torch_dtype.itemsize * math.prod(field.sizes), 0, f"a sample's {name}")
                found.append(field)
            except (TypeError, ValueError) as error:
                raise DataError(f"{self._place}: conditions: {error}") from None
        try:
            check_fields(found)
        except ValueError as error:
            raise DataError(f"{self._place}: conditions: {error}") from None
        return tuple(found)

    def _split(self, record: Any, prefix: str, classes: int) -> Split:
        if isinstance(record, list):  # nothing but the shards
            record = {"shards": record}
        shards = self._take(record, "shards", list, prefix=prefix)
        labels = self._take(record, "labels", list, [], prefix=prefix)
        if not all(isinstance(count, int) and count >= 0 for count in labels):
            raise DataError(f"{self._place}: {prefix}labels are no counts")
        split = Split(
            shards=tuple(self._shard(shard, f"{prefix}shards[{i}].") for i, shard in enumerate(shards)),
            labels=tuple(labels) or None,
        )
        samples = self._take(record, "samples", int, split.samples, prefix=prefix)
        if samples != split.samples:
            raise DataError(f"{self._place}: {prefix}samples is {samples}, but its shards hold {split.samples}")
        if split.labels is not None and (len(labels) != classes or sum(labels) != samples):
            raise DataError(f"{self._place}: {prefix}labels must count {samples} samples over {classes} classes")
        return split

    def _shard(self, record: Any, prefix: str) -> Shard:
        sha256 = self._take(record, "sha256", str, prefix=prefix).lower()
        if not SHA256.fullmatch(sha256):  # what is known of two shards would not tell them apart
            raise DataError(f"{self._place}: {prefix}sha256 is {sha256!r}, no sha256 in hexadecimal")
        shard = Shard(
            file=self._take(record, "file", str, prefix=prefix),
            samples=self._count(record, "samples", prefix),
            bytes=self._count(record, "bytes", prefix),
            sha256=sha256,
            layout_sha256=self._take(record, "layout_sha256", str, "", prefix=prefix),
        )
        if ".." in PurePosixPath(shard.file).parts or shard.file.startswith("/"):
            raise DataError(f"{self._place}: {prefix}file is {shard.file!r}, outside the folder")
        check_samples(f"{self._place}: {prefix}samples", shard.samples, shard.bytes)
        return shard

    def _count(self, record: Any, field: str, prefix: str = "") -> int:
        value = self._take(record, field, int, prefix=prefix)
        if isinstance(value, bool) or value < 0:
            raise DataError(f"{self._place}: {prefix}{field} is {value}, no count")
        return value

    def _take(
        self, record: Any, field: str, kind: type | tuple[type, ...], default: Any = None, prefix: str = ""
    ) -> Any:
        value = record.get(field, default) if isinstance(record, dict) else None
        if not isinstance(record, dict) or not isinstance(value, kind):
            wanted = kind[0] if isinstance(kind, tuple) else kind
            raise DataError(f"{self._place}: {prefix}{field} is missing or no {wanted.__name__}")
        return value
