"""What shards are made from: folders, archives and the files in which well-known sets are published.

A source knows its samples by number and reads any of them, so that processes can share the work.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realuid.data.cache import Cache
from realuid.data.decode import IMAGE_KINDS
from realuid.data.index import ShardIndex, has_index
from realuid.data.layout import IMAGE, SOURCE, Layout
from realuid.data.listing import Listed, is_pattern, listed
from realuid.data.location import open_folder
from realuid.errors import DataError

__all__ = ["Arrays", "Files", "Raw", "SideBySide", "Source", "TwoFolders", "open_source"]


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


def open_source(path: str, labels: str = "auto") -> dict[str, Source]:
    """The splits of what lies at `path`: shards, CIFAR-10's, (Fashion-)MNIST's or downsampled ImageNet's own files, or
    else a folder or zip of images, whose only split is "train".

    Raises:
        DataError: there is nothing that can be read.
    """
    if is_pattern(path) and not _is_cifar_archive(path):
        shards = listed(path, Cache(folder=None, limit=LIMIT))
        return {"train": _resharded(shards, (), labels, grey=False)}
    if not path.lower().endswith((".zip", ".npz", ".gz")) and has_index(path):
        index = ShardIndex.read(path)
        return {
            name: _resharded(
                [Listed(path, shard) for shard in split.shards], index.classes, labels, grey=index.channels == 1
            )
            for name, split in index.splits.items()
        }
    local = Path(path)
    for reader in (_cifar10, _idx, _npz):
        if local.exists() and (splits := reader(local)):
            return splits
    return {"train": Files(path, labels)}


def _resharded(shards: list[Listed], classes: tuple[str, ...], labels: str, *, grey: bool) -> Shards:
    cache = Cache(folder=None, limit=LIMIT)
    layouts = [cache.get(entry.folder, entry.shard).layout for entry in shards]
    pairs = all((layout.places[:, SOURCE, 1] >= 0).all() for layout in layouts)
    if labels == "none":
        classes = ()
    elif not classes and all((layout.labels >= 0).all() for layout in layouts):
        classes = tuple(str(i) for i in range(1 + max(int(layout.labels.max()) for layout in layouts)))
    return Shards(shards, classes, pairs=pairs, grey=grey)


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


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def _is_cifar_archive(path: str) -> bool:
    return Path(path).name in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")


def _cifar10(path: Path) -> dict[str, Source]:
    """The published archives, or the folders that they unpack to."""
    files: dict[str, bytes] = {}
    if _is_cifar_archive(str(path)):
        with tarfile.open(path) as tar:
            for info in tar:
                if info.isreg() and (stream := tar.extractfile(info)):
                    files[info.name.rpartition("/")[2]] = stream.read()
    elif path.is_dir():
        files = {file.name: file.read_bytes() for file in path.glob("*_batch*") if file.is_file()}
    names = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    for suffix, decoder in ((".bin", _cifar_binary), ("", _cifar_pickled)):
        if all(name + suffix in files for batches in names.values() for name in batches):
            return {
                split: Arrays(
                    "CIFAR-10", [_cifar_batch(decoder, name, files[name + suffix]) for name in batches], CIFAR10
                )
                for split, batches in names.items()
            }
    return {}


def _cifar_batch(decoder: Callable[[bytes], tuple[Any, Any]], name: str, data: bytes) -> tuple[Any, Any]:
    try:
        return decoder(data)
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{name} is no batch of CIFAR-10, or cut short: {error!r}") from error


def _cifar_binary(data: bytes) -> tuple[Any, Any]:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


class _ArraysOnly(pickle.Unpickler):
    """Of everything that a pickle may call, only what builds an array."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise DataError(f"a CIFAR-10 batch asks for {module}.{name}: it is not one, and nothing of it was run")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _cifar_pickled(data: bytes) -> tuple[Any, Any]:
    batch = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    batch = {name.decode() if isinstance(name, bytes) else str(name): value for name, value in batch.items()}
    return np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32), np.asarray(batch["labels"])


def _idx(path: Path) -> dict[str, Source]:
    """MNIST's format: LeCun's idx files, plain or gzipped."""
    found = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        parts = []
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            for file in (path / f"{prefix}-{kind}", path / f"{prefix}-{kind}.gz"):
                if file.exists():
                    data = file.read_bytes()
                    parts.append(_idx_array(str(file), gzip.decompress(data) if file.suffix == ".gz" else data))
                    break
        if len(parts) == 2:
            fashion = "fashion" in str(path.resolve()).lower()
            classes = FASHION if fashion else tuple(str(i) for i in range(10))
            found[split] = Arrays(str(path), [(parts[0][:, None], parts[1])], classes)
    return dict(found)


def _idx_array(name: str, data: bytes) -> NDArray[np.uint8]:
    axes = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data, ">i4", axes, 4)
    if not axes or len(data) != 4 + 4 * axes + int(np.prod(shape)):
        raise DataError(f"{name} is no idx file of bytes, or cut short")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _npz(path: Path) -> dict[str, Source]:
    """Downsampled ImageNet (Chrabaszcz et al., arXiv 1707.08819): data [N, 3 side^2], labels from 1."""
    splits: dict[str, list[Path]] = {}
    files = [path] if path.suffix == ".npz" else sorted(path.glob("*.npz")) if path.is_dir() else []
    for file in sorted(files, key=lambda file: (len(file.name), file.name)):  # batch_2 before batch_10
        splits.setdefault("val" if file.name.startswith("val") else "train", []).append(file)
    found: dict[str, Source] = {}
    for split, batches in splits.items():
        parts = [_npz_batch(file) for file in batches]
        count = 1 + max(int(labels.max()) for _, labels in parts)
        found[split] = Arrays(str(path), parts, tuple(str(i) for i in range(max(count, 1000))))
    return found


def _npz_batch(file: Path) -> tuple[Any, Any]:
    """The pixels are unpacked into a temporary file and mapped: all batches together do not fit into memory."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("data.npy") as data:
            unpacked = tempfile.NamedTemporaryFile(suffix=".npy")  # noqa: SIM115 (it lives as long as the images)
            while piece := data.read(1 << 24):
                unpacked.write(piece)
            unpacked.flush()
        with np.load(file, allow_pickle=False) as stored:
            labels = np.asarray(stored["labels"]).astype(np.int64) - 1
        return _Mapped(unpacked), labels
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no batch of downsampled ImageNet (data and labels): {error}") from error


class _Mapped:
    """Images uint8 [N, 3, side, side] mapped from a temporary file; other processes map it by its name."""

    def __init__(self, file: Any) -> None:
        self._file, self._name = file, file.name
        self._images = self._map()

    def _map(self) -> Any:
        data = np.load(self._name, mmap_mode="r", allow_pickle=False)
        side = round((data.shape[1] / 3) ** 0.5)
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * side * side:
            raise ValueError(f"data are {data.dtype} {data.shape}, not uint8 [N, 3 side^2]")
        return data.reshape(-1, 3, side, side)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._images.shape)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any) -> Any:
        return self._images[rows]

    def __getstate__(self) -> dict[str, Any]:
        return {"_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._name = state["_name"]
        self._file = None
        self._images = self._map()
