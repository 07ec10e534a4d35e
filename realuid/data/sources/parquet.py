"""Parquet files of images, as data sets on Hugging Face's hub are stored."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realuid.data.shards.captions import CAPTION, caption_in
from realuid.data.shards.decode import IMAGE_KINDS
from realuid.data.sources.base import Damaged, Raw, Source
from realuid.data.sources.split_names import split_of
from realuid.data.sources.tables import LABEL, labelled_by
from realuid.utils import budget
from realuid.utils.errors import DataError
from realuid.utils.remote import first_line

__all__ = ["Parquet", "captions", "splits_of"]

PARTS = 64
"""Rows that are unpacked at once, or fewer of them that could be large."""
ROOM = 2 * budget.FREE
"""Bytes that they may take, if each of them is as large as a part of the file can hold."""
NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
"""Names by which the hub says how many files there are."""
NUMBER = 8
"""Bytes of a value that is neither a text nor bytes."""
KINDS = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp"}
IMAGE = ("image", "img", "jpg", "png", "pixel_values")


def splits_of(path: Path) -> dict[str, Source]:
    """The splits of a parquet file, or of a folder of them: `train-00000-of-00002.parquet` belongs to `train`, and so
    does `train/0000.parquet`.

    Raises:
        DataError: pyarrow is not installed, or a file is none, or holds no images, or one of several is missing.
    """
    files = [path] if path.suffix == ".parquet" and path.is_file() else []
    if path.is_dir():
        files = sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))
        if files and any(file.suffix.lower().removeprefix(".") in IMAGE_KINDS for file in path.rglob("*")):
            return {}  # a folder of images, with a table beside them
    if len({file.parent for file in files}) > 1:
        raise DataError(f"{path} holds parquet files in several folders: give one of them as SOURCE")
    splits: dict[str, list[Path]] = {}
    for file in files:
        folder = split_of(file.parent.name) if file.parent not in (path, path.parent) else None
        splits.setdefault(split_of(file.stem) or folder or "train", []).append(file)
    if path.is_dir():
        _check_whole(path, files)
    return {name: Parquet(parts) for name, parts in splits.items()}


def _check_whole(path: Path, files: Sequence[Path]) -> None:
    """Raises DataError if files are missing among those that say how many they are: `train-00000-of-00003`."""
    parts: dict[tuple[str, str], set[int]] = {}
    for file in files:
        if found := NUMBERED.fullmatch(file.stem):
            parts.setdefault((found[1], found[3]), set()).add(int(found[2]))
    for (name, count), numbers in parts.items():
        if missing := sorted(set(range(int(count))) - numbers):
            raise DataError(
                f"{path} lacks {len(missing)} of {int(count)} files, such as {name}-{missing[0]:05}-of-{count}"
            )


class _Columns(NamedTuple):
    """Names of the columns that are read, of the classes if the file knows them, and of the columns left out."""

    image: str
    label: str | None
    captions: tuple[str, ...]
    classes: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def told(self) -> str:
        """All of it in a few words."""
        classes = f", classes {', '.join(self.classes[:8])}" if self.classes else ""
        return f"columns {', '.join([*self.wanted, *self.others])}{classes}"

    @property
    def wanted(self) -> list[str]:
        return [self.image, *([] if self.label is None else [self.label]), *self.captions]


class Parquet(Source):
    """Rows of parquet files: an image, maybe a label and a caption. Other columns are left out.

    The images are unpacked into a temporary file, from which any of them is read at once.

    Args:
        files: in their order.

    Raises:
        DataError: as of `splits_of`.
    """

    def __init__(self, files: list[Path]) -> None:
        self.path = str(files[0] if len(files) == 1 else files[0].parent)
        self._stamps = [(file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
        self._file = tempfile.NamedTemporaryFile(prefix="realuid-", suffix=".images")  # noqa: SIM115 (as long as this)
        self._name = self._file.name
        places: list[tuple[int, int]] = []
        labels: list[Any] = []
        self._captions: list[str | None] = []
        columns = _columns(files[0])
        for file in files:
            if (own := _columns(file)) != columns:
                raise DataError(f"{file} has other columns or classes than {files[0]}: {own.told}, not {columns.told}")
        for place, row in _rows(files, columns.wanted):
            places.append(self._put(place, row[columns.image]))
            labels.append(row[columns.label] if columns.label else 0)
            self._captions.append(_caption(place, row, columns.captions))
        if not places:
            raise DataError(f"{self.path} holds no rows")
        self._file.flush()
        self._places = np.array(places, np.int64)
        self._labels = labels
        if columns.label is not None:
            self.classes, self._labels, self.notes = _labelled(self.path, labels, columns.classes)
        if columns.others:
            self.notes += (f"{self.path}: columns that are left out: {', '.join(columns.others)}",)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, number: int) -> Raw:
        offset, size = self._places[number].tolist()
        with open(self._name, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        place = f"{self.path}, row {number}"
        kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), None)
        if kind is None:
            raise Damaged(f"{place} holds no PNG, JPEG or WebP")
        caption = self._captions[number]
        return Raw(place, (kind, data), self._labels[number], extras={"txt": caption.encode()} if caption else {})

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self._stamps, self._labels, self.classes, self._captions)).encode()).hexdigest()

    def _put(self, place: str, image: Any) -> tuple[int, int]:
        """Writes an image into the temporary file; its offset and size there."""
        data = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(data, bytes):
            raise DataError(f"{place} holds no image, only where one lies")
        offset = self._file.tell()
        self._file.write(data)
        return offset, len(data)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


def captions(file: Path) -> list[str] | None:
    """The caption of each row in a file without images, "" where there is none; None if the file holds images, or no
    column of captions.

    Raises:
        DataError: pyarrow is not installed, or the file cannot be read, or a caption is no text.
    """
    schema = _schema(file)
    names = [name for name in CAPTION if name in schema.names]
    if not names or _image_column(schema) is not None:
        return None
    return [_caption(place, row, names) or "" for place, row in _rows([file], names)]


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("parquet files need pyarrow: pip install realuid[parquet]") from None
    return pyarrow.parquet


def _rows(files: Sequence[Path], columns: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of files, each with what complaints call it. Raises DataError if one cannot be read, or they hold more
    than files of their size may: a column that is packed by a dictionary repeats a long text at no cost."""
    spent, size, number = 0, sum(file.stat().st_size for file in files), 0
    for file in files:
        try:
            table = _arrow().ParquetFile(file)
            unpacked = _unpacked(table.metadata, columns)
            budget.spend(sum(unpacked), file.stat().st_size, "what it holds")
            count = max(1, min(PARTS, ROOM // max([1, *unpacked])))
            for part in table.iter_batches(batch_size=count, columns=columns):
                for row in part.to_pylist():
                    spent += _bytes(row)
                    budget.spend(spent, size, "what it holds")
                    yield f"{file}, row {number}", row
                    number += 1
        except DataError:
            raise
        except Exception as error:  # pyarrow raises kinds of its own
            raise DataError(f"{file} cannot be read: {first_line(error)}") from error


def _unpacked(metadata: Any, columns: list[str]) -> list[int]:
    """Bytes that these columns of each group of rows become, texts that are repeated counted once. No value of a group
    is larger than that."""
    return [
        sum(
            part.total_uncompressed_size
            for part in map(metadata.row_group(group).column, range(metadata.num_columns))
            if part.path_in_schema.partition(".")[0] in columns
        )
        for group in range(metadata.num_row_groups)
    ]


def _bytes(value: Any) -> int:
    """What a value of a row takes, about."""
    if isinstance(value, (dict, list)):
        return sum(map(_bytes, value.values() if isinstance(value, dict) else value))
    return len(value) if isinstance(value, (str, bytes)) else NUMBER


def _caption(place: str, row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The caption among these columns of a row. Raises DataError, beginning with `place`, if one is no text."""
    try:
        return caption_in({name: row[name] for name in names})
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None


def _schema(file: Path) -> Any:
    arrow = _arrow()
    try:
        return arrow.read_schema(file)
    except Exception as error:  # pyarrow raises kinds of its own
        raise DataError(f"{file} cannot be read: {first_line(error)}") from error


def _columns(file: Path) -> _Columns:
    """By what Hugging Face's library writes beside the columns, or else by their names."""
    schema = _schema(file)
    features, image = _features(schema), _image_column(schema)
    if image is None:
        raise DataError(f"{file} has no column of images, only {', '.join(schema.names)}")
    label = _of_kind(schema, "ClassLabel") or next((name for name in LABEL if name in schema.names), None)
    captions = tuple(name for name in CAPTION if name in schema.names)
    classes = tuple(map(str, features.get(label, {}).get("names", ()))) if label in features else ()
    others = tuple(name for name in schema.names if name not in (image, label, *captions))
    return _Columns(image, label, captions, classes, others)


def _image_column(schema: Any) -> str | None:
    """The column that holds the images of a file."""
    return _of_kind(schema, "Image") or next((name for name in IMAGE if name in schema.names), None)


def _of_kind(schema: Any, kind: str) -> str | None:
    """The first column that Hugging Face's library says to be of this kind."""
    features = _features(schema)
    kinds = {name: feature.get("_type") for name, feature in features.items() if isinstance(feature, dict)}
    return next((name for name in schema.names if kinds.get(name) == kind), None)


def _features(schema: Any) -> dict[str, Any]:
    try:
        features = budget.parsed((schema.metadata or {})[b"huggingface"], "it")["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (KeyError, ValueError, TypeError):
        return {}


def _labelled(
    path: str, labels: list[Any], names: tuple[str, ...]
) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """The classes, the labels, and what the user is told of them."""
    rows = [(f"row {number}", {"label": label}) for number, label in enumerate(labels)]
    classes, numbers, notes = labelled_by(rows, [row for row, _ in rows], path)
    if names and len(classes) > len(names):
        raise DataError(f"{path}: a label is {len(classes) - 1}, but there are {len(names)} classes")
    return names or classes, numbers, () if names else notes
