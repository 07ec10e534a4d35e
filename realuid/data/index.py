"""The `index.json` beside the shards: what a data set holds, and by what to tell that it is whole."""

import dataclasses
import hashlib
import json
import uuid
from typing import Any

from realuid.data.decode import Form
from realuid.data.location import open_folder
from realuid.errors import DataError

__all__ = ["INDEX_FILE", "Shard", "ShardIndex", "Split", "Tally", "has_index"]

INDEX_FILE = "index.json"


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
    """The description of a data set of square images.

    `image_size` is the side in pixels; `channels` is None where the index does not say; `classes` are the classes'
    names in the order of their labels, empty for a set without labels; `dtype` is that of `.npy` members.
    """

    name: str
    image_size: int
    channels: int | None
    classes: tuple[str, ...]
    format: str
    source: str
    licence: str
    splits: dict[str, Split]
    dtype: str = "uint8"

    def form(self, *, channels: int = 3, pairs: bool = False) -> Form:
        """What its samples must be; `channels` counts only where the index does not say."""
        return Form(self.channels or channels, self.image_size, len(self.classes), pairs, self.dtype)

    @classmethod
    def read(cls, folder: str) -> "ShardIndex":
        """The index in a folder (any fsspec URL).

        Raises:
            DataError: there is none, or it does not describe a data set.
        """
        fs, root = open_folder(folder)
        try:
            record = json.loads(fs.cat_file(f"{root}/{INDEX_FILE}"))
        except FileNotFoundError as error:
            raise DataError(f"{folder} holds no data set: there is no {INDEX_FILE}") from error
        except OSError as error:
            raise DataError(f"{folder}/{INDEX_FILE} cannot be read: {error}") from error
        except ValueError as error:
            raise DataError(f"{folder}/{INDEX_FILE} is not JSON: {error}") from error
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
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {"splits": splits}
        fs, root = open_folder(folder)
        unfinished = f"{root}/{INDEX_FILE}.{uuid.uuid4().hex}.tmp"
        fs.pipe_file(unfinished, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
        fs.mv(unfinished, f"{root}/{INDEX_FILE}")


def has_index(folder: str) -> bool:
    """Whether a folder (any fsspec URL) holds a finished data set."""
    fs, root = open_folder(folder)
    return bool(fs.exists(f"{root}/{INDEX_FILE}"))


class Tally:
    """A binary stream that counts and hashes the bytes read or written through it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int) -> bytes:
        return self._pass(self._stream.read(size))

    def write(self, block: bytes) -> int:
        self._stream.write(self._pass(block))
        return len(block)

    def _pass(self, block: bytes) -> bytes:
        self._hash.update(block)
        self.bytes += len(block)
        return block


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
        return ShardIndex(
            name=self._take(record, "name", str),
            image_size=self._take(record, "image_size", int),
            channels=self._take(record, "channels", (int, type(None))),
            classes=tuple(str(name) for name in classes),
            format=self._take(record, "format", str, ""),
            source=source if isinstance(source, str) else ", ".join(f"{k} {v}" for k, v in source.items()),
            licence=self._take(record, "licence", str, ""),
            splits={name: self._split(split, f"splits.{name}.", len(classes)) for name, split in splits.items()},
            dtype=self._take(record, "dtype", str, "uint8"),
        )

    def _split(self, record: Any, prefix: str, classes: int) -> Split:
        if isinstance(record, list):  # nothing but the shards
            record = {"shards": record}
        shards = self._take(record, "shards", list, prefix=prefix)
        labels = self._take(record, "labels", list, [], prefix=prefix)
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
        return Shard(
            file=self._take(record, "file", str, prefix=prefix),
            samples=self._take(record, "samples", int, prefix=prefix),
            bytes=self._take(record, "bytes", int, prefix=prefix),
            sha256=self._take(record, "sha256", str, prefix=prefix),
            layout_sha256=self._take(record, "layout_sha256", str, "", prefix=prefix),
        )

    def _take(
        self, record: Any, field: str, kind: type | tuple[type, ...], default: Any = None, prefix: str = ""
    ) -> Any:
        value = record.get(field, default) if isinstance(record, dict) else None
        if not isinstance(record, dict) or not isinstance(value, kind):
            wanted = kind[0] if isinstance(kind, tuple) else kind
            raise DataError(f"{self._place}: {prefix}{field} is missing or no {wanted.__name__}")
        return value
