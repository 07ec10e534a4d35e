"""What shards are made from: folders, archives, arrays, pairs of those, and shards.

A source knows its samples by number and reads any of them, so that processes can share the work.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realuid.data.cache import Cache
from realuid.data.decode import IMAGE_KINDS
from realuid.data.layout import IMAGE, SOURCE, Layout
from realuid.data.listing import Listed
from realuid.data.location import open_folder
from realuid.errors import DataError

LIMIT = 50_000_000_000
OPEN = 64
"""Shards that are read at once when they are packed anew."""


class Raw(NamedTuple):
    """One sample as it was found: an array uint8 [C, H, W], or the bytes of a file and their kind (`png`, `npy`, ...).

    `name` is what complaints call it; `half` says which half of a side-by-side image is meant ("left", "right").
    """

    name: str
    image: NDArray[np.uint8] | tuple[str, bytes]
    label: int
    source: NDArray[np.uint8] | tuple[str, bytes] | None = None
    half: str | None = None


class Source(ABC):
    """Samples by number. `classes` are the names of the labels, empty without labels; grey sets have one channel."""

    classes: tuple[str, ...] = ()
    grey: bool = False
    pairs: bool = False
    mixed: bool = False
    """Whether the samples come in a mixed order already."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, number: int) -> Raw:
        """One sample. Raises DataError if it cannot be read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the source does, as far as can be told without reading all of it."""


class Files(Source):
    """Image files, or `.npy` latents, of a folder (any fsspec URL) or a zip, in the order of their names.

    Labels come from `dataset.json` (as EDM and StyleGAN write it), from a file of the user's, or from the first folder
    of each name if all files lie in one.

    Args:
        path: folder or zip.
        labels: "auto", "none", or a file: JSON {name: label} or {"labels": [[name, label], ...]}, or CSV name,label.

    Raises:
        DataError: no images, or labels that do not fit them.
    """

    def __init__(self, path: str, labels: str = "auto") -> None:
        self.path = path
        self._fs, self._root = open_folder(path)
        self._zipped = path.lower().endswith(".zip")
        self._zip: zipfile.ZipFile | None = None
        if self._zipped:
            with self._archive() as archive:
                sizes = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        else:
            try:
                found = self._fs.find(self._root, detail=True)
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read: {error}") from error
            prefix = self._root.rstrip("/") + "/"
            sizes = {str(name).removeprefix(prefix): int(info["size"]) for name, info in found.items()}
        self.names = sorted(name for name in sizes if name.lower().rpartition(".")[2] in IMAGE_KINDS)
        self._sizes = [sizes[name] for name in self.names]
        if not self.names:
            raise DataError(f"{path} holds no images ({', '.join(IMAGE_KINDS)})")
        self.classes, self._labels = self._labelled(labels, "dataset.json" in sizes)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int) -> Raw:
        name = self.names[number]
        try:
            data = self._bytes(name)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise DataError(f"{self.path}/{name} cannot be read: {error}") from error
        return Raw(f"{self.path}/{name}", (name.lower().rpartition(".")[2], data), self._labels[number])

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.names, self._sizes, self._labels, self.classes)).encode()).hexdigest()

    def _labelled(self, labels: str, has_json: bool) -> tuple[tuple[str, ...], list[int]]:
        none: tuple[tuple[str, ...], list[int]] = ((), [0] * len(self.names))
        if labels == "none":
            return none
        if labels != "auto" or has_json:
            given = _label_file(labels) if labels != "auto" else _label_table(json.loads(self._bytes("dataset.json")))
            if not given and labels == "auto":
                return none
            if absent := [name for name in self.names if name not in given]:
                raise DataError(f"{self.path}: no label for {absent[0]} and {len(absent) - 1} others")
            numbers = [given[name] for name in self.names]
            return tuple(str(i) for i in range(max(numbers) + 1)), numbers
        folders = [PurePosixPath(name).parts[0] if "/" in name else None for name in self.names]
        named = sorted({folder for folder in folders if folder is not None})
        if not named or len(named) < 2:
            return none
        if None in folders:
            raise DataError(
                f"{self.path}: some images lie in folders, {self.names[folders.index(None)]} does not: are the folders "
                "classes? Say --labels none if not"
            )
        place = {folder: i for i, folder in enumerate(named)}
        return tuple(named), [place[folder] for folder in folders if folder is not None]

    def _bytes(self, name: str) -> bytes:
        if not self._zipped:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        self._zip = self._zip or self._archive()
        return self._zip.read(name)

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._fs.open(self._root, "rb"))
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_zip": None}


class TwoFolders(Source):
    """Pairs from two folders or zips: the file of the same name (whatever its kind) is the source image.

    Raises:
        DataError: an image has no partner.
    """

    pairs = True

    def __init__(self, images: Files, sources: Files) -> None:
        self.images, self.sources, self.classes = images, sources, images.classes
        partners = {_stem(name): i for i, name in enumerate(sources.names)}
        alone = [name for name in images.names if _stem(name) not in partners]
        if alone or len(sources) != len(images):
            example = (
                alone[0] if alone else sorted({_stem(n) for n in sources.names} - {_stem(n) for n in images.names})
            )
            raise DataError(f"{images.path} and {sources.path} do not pair up: {example} stands alone")
        self._partners = [partners[_stem(name)] for name in images.names]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> Raw:
        return self.images.read(number)._replace(source=self.sources.read(self._partners[number]).image)

    def fingerprint(self) -> str:
        return self.images.fingerprint() + self.sources.fingerprint()


class SideBySide(Source):
    """Pairs in one image each: one half is the source image, as in pix2pix's sets.

    Args:
        images: files of twice the width.
        source: the half that holds the source image, "left" or "right".
    """

    pairs = True

    def __init__(self, images: Files, source: str) -> None:
        self.images, self.source, self.classes = images, source, images.classes

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> Raw:
        raw = self.images.read(number)
        return raw._replace(source=raw.image, half="right" if self.source == "left" else "left")

    def fingerprint(self) -> str:
        return f"{self.images.fingerprint()} {self.source}"


class Arrays(Source):
    """Images that are in memory or mapped from a file: uint8 [N, C, H, W], with labels [N]."""

    def __init__(self, name: str, parts: list[tuple[Any, Any]], classes: tuple[str, ...]) -> None:
        self.name, self.parts, self.classes = name, parts, classes
        self.grey = parts[0][0].shape[1] == 1
        self._starts = np.concatenate([[0], np.cumsum([len(images) for images, _ in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, number: int) -> Raw:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        images, labels = self.parts[part]
        row = number - int(self._starts[part])
        return Raw(f"{self.name}, image {number}", np.array(images[row]), int(labels[row]))

    def fingerprint(self) -> str:
        first = [np.asarray(images[: 1 + len(images) // 100]).tobytes() for images, _ in self.parts]
        return hashlib.sha256(b"".join([str(len(self)).encode(), *first])).hexdigest()


class Shards(Source):
    """Samples of shards, to be packed anew."""

    mixed = True

    def __init__(self, shards: list[Listed], classes: tuple[str, ...], *, pairs: bool, grey: bool) -> None:
        self.shards, self.classes, self.pairs, self.grey = shards, classes, pairs, grey
        self._starts = np.concatenate([[0], np.cumsum([entry.shard.samples for entry in shards])])
        self._opened: dict[int, tuple[Layout, int]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, number: int) -> Raw:
        home = int(np.searchsorted(self._starts, number, side="right")) - 1
        entry, row = self.shards[home], number - int(self._starts[home])
        if home not in self._opened:
            local = Cache(folder=None, limit=LIMIT).get(entry.folder, entry.shard)
            if local.layout.problem:
                raise DataError(local.layout.problem)
            if len(self._opened) >= OPEN:
                os.close(self._opened.pop(next(iter(self._opened)))[1])
            self._opened[home] = local.layout, os.open(local.path, os.O_RDONLY)
        layout, file = self._opened[home]
        name = f"{entry.folder}/{entry.shard.file}, sample {layout.keys[row]}"
        if row in layout.faults:
            raise DataError(layout.faults[row][1])
        members: list[Any] = []
        for member in (IMAGE, SOURCE):
            offset, size = layout.places[row, member].tolist()
            kind = IMAGE_KINDS[layout.kinds[row, member]]
            members.append((kind, os.pread(file, size, offset)) if size >= 0 else None)
        return Raw(name, members[0], int(layout.labels[row]) if self.classes else 0, members[1] if self.pairs else None)

    def fingerprint(self) -> str:
        return hashlib.sha256("".join(entry.shard.sha256 for entry in self.shards).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _label_file(path: str) -> dict[str, int]:
    try:
        text = Path(path).read_text()
        if path.lower().endswith(".json"):
            return _label_table(json.loads(text))
        return {name: int(label) for name, label in csv.reader(io.StringIO(text))}
    except (OSError, ValueError) as error:
        raise DataError(f"labels in {path} cannot be read (JSON, or CSV of name,label): {error}") from error


def _label_table(record: Any) -> dict[str, int]:
    try:
        if "labels" in record:
            return {str(name): int(label) for name, label in record["labels"] or ()}
        return {str(name): int(label) for name, label in record.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"a table of labels that is none: {error}") from error
