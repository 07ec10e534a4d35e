"""The files in which well-known sets are published: CIFAR-10, MNIST and Fashion-MNIST, downsampled ImageNet."""

from __future__ import annotations

import math
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from realuid.data.sources.arrays import Arrays
from realuid.data.sources.base import Source, agreeing, numbered
from realuid.utils import archives, pickles
from realuid.utils.arrays import HEADER, NUMPY, Array, npy, npy_header
from realuid.utils.errors import DataError
from realuid.utils.pickles import PLAIN

BATCHES = ("train_data_batch_*.npz", "val_data*.npz")
"""Names of the files of downsampled ImageNet; other archives of arrays are none of them."""
NUMBERED = re.compile(r"train_data_batch_(\d{1,9})\.npz")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def is_cifar_archive(path: str) -> bool:
    return Path(path).name in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")


def cifar10(path: Path) -> dict[str, Source]:
    """The published archives, or the folders that they unpack to."""
    files: dict[str, bytes] = {}
    if is_cifar_archive(str(path)):
        files = _unpacked(path)
    elif path.is_dir():
        files = {file.name: file.read_bytes() for file in path.glob("*_batch*") if file.is_file()}
    names = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    for suffix, decoder in ((".bin", _cifar_binary), ("", _cifar_pickled)):
        wanted = [name + suffix for batches in names.values() for name in batches]
        if files.keys().isdisjoint(wanted):
            continue
        _check_whole(path, wanted, files)
        return {
            split: Arrays("CIFAR-10", [_cifar_batch(decoder, name, files[name + suffix]) for name in batches], CIFAR10)
            for split, batches in names.items()
        }
    return {}


def _check_whole(path: Path, wanted: Sequence[str], files: Collection[str]) -> None:
    """Raises DataError if one of the files that belong together is missing: a part of the set would be lost."""
    if missing := [name for name in wanted if name not in files]:
        raise DataError(f"{path} lacks {missing[0]}, which belongs to the files that are there")


def _unpacked(path: Path) -> dict[str, bytes]:
    """The files of a published archive, by their names without folders."""
    files: dict[str, bytes] = {}
    try:
        with path.open("rb") as packed, _tar(archives.gunzipped(packed)) as tar:
            for info in tar:
                if info.isreg() and not info.issparse() and (stream := tar.extractfile(info)):
                    files[info.name.rpartition("/")[2]] = stream.read()
    except (ValueError, EOFError, OSError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be unpacked: {error}") from None
    return files


def _tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r|", tarinfo=archives.Member)


def _cifar_batch(decoder: Callable[[bytes], tuple[Any, Any]], name: str, data: bytes) -> tuple[Any, Any]:
    try:
        return agreeing(name, *decoder(data))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError) as error:
        raise DataError(f"{name} is no batch of CIFAR-10, or cut short: {error!r}") from error


def _cifar_binary(data: bytes) -> tuple[Any, Any]:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def _cifar_pickled(data: bytes) -> tuple[Any, Any]:
    try:
        batch = pickles.read(data, PLAIN | NUMPY)
    except pickles.Refused as error:
        raise DataError(f"a CIFAR-10 batch: {error}: it is not one, and nothing of it was run") from None
    batch = {name.decode() if isinstance(name, bytes) else str(name): value for name, value in batch.items()}
    images, labels = (part.value if isinstance(part, Array) else part for part in (batch["data"], batch["labels"]))
    return np.asarray(images).reshape(-1, 3, 32, 32), np.asarray(labels)


def idx(path: Path) -> dict[str, Source]:
    """MNIST's format: LeCun's idx files, plain or gzipped."""
    found: dict[str, Source] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        wanted = [f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
        files = {name: file for name in wanted for file in (path / f"{name}.gz", path / name) if file.exists()}
        if not files:
            continue
        _check_whole(path, wanted, files)
        images, labels = (_idx_array(str(files[name]), _content(files[name])) for name in wanted)
        fashion = "fashion" in str(path.resolve()).lower()
        classes = FASHION if fashion else tuple(str(i) for i in range(10))
        found[split] = Arrays(str(path), [agreeing(f"{path}, {split}", images[:, None], labels)], classes)
    return found


def _content(file: Path) -> bytes:
    if file.suffix != ".gz":
        return file.read_bytes()
    try:
        with file.open("rb") as packed:
            return archives.gunzipped(packed).read()
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file} cannot be unpacked: {error}") from None


def _idx_array(name: str, data: bytes) -> NDArray[np.uint8]:
    axes = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = [int(length) for length in np.frombuffer(data, ">u4", axes, 4)] if len(data) >= 4 + 4 * axes else []
    if not axes or not shape or len(data) != 4 + 4 * axes + math.prod(shape):
        raise DataError(f"{name} is no idx file of bytes, or cut short")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def npz(path: Path) -> dict[str, Source]:
    """Downsampled ImageNet (Chrabaszcz et al., arXiv 1707.08819): data [N, 3 side^2], labels from 1."""
    splits: dict[str, list[Path]] = {}
    files = [path] if path.suffix == ".npz" else []
    if path.is_dir():
        files = [file for pattern in BATCHES for file in path.glob(pattern)]
    for file in sorted(files, key=lambda file: (len(file.name), file.name)):  # batch_2 before batch_10
        splits.setdefault("val" if file.name.startswith("val") else "train", []).append(file)
    found: dict[str, Source] = {}
    for split, batches in splits.items():
        numbers = [int(number[1]) for file in batches if (number := NUMBERED.fullmatch(file.name))]
        if path.is_dir() and numbers:
            first = min(1, min(numbers))
            wanted = [f"train_data_batch_{i}.npz" for i in range(first, first + len(numbers))]
            _check_whole(path, wanted, [file.name for file in batches])
        parts = [_npz_batch(file) for file in batches]
        count = 1 + max(int(labels.max()) for _, labels in parts)
        found[split] = Arrays(str(path), parts, numbered(max(count, 1000), str(path)))
    return found


def _npz_batch(file: Path) -> tuple[Any, Any]:
    """The pixels are unpacked into a temporary file and mapped: all batches together do not fit into memory."""
    try:
        with file.open("rb") as stored, archives.opened_zip(stored) as archive:
            labels = npy(archives.member(archive, "labels.npy"))
            unpacked = tempfile.NamedTemporaryFile(suffix=".npy")  # noqa: SIM115 (it lives as long as the images)
            with archive.open("data.npy") as data:
                shutil.copyfileobj(data, unpacked, 1 << 24)
            unpacked.flush()
        images, labels = agreeing(str(file), _Mapped(unpacked), labels)
        return images, labels.astype(np.int64) - 1
    except (KeyError, ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no batch of downsampled ImageNet (data and labels): {error}") from error


class _Mapped:
    """Images uint8 [N, 3, side, side] mapped from a temporary file; other processes map it by its name."""

    def __init__(self, file: Any) -> None:
        self._file, self._name = file, file.name
        self._images = self._map()

    def _map(self) -> Any:
        with open(self._name, "rb") as file:
            header = npy_header(file.read(HEADER), os.path.getsize(self._name))
        if header.fortran:
            raise ValueError("data are stored by columns")
        side = round((header.shape[-1] / 3) ** 0.5) if header.shape else 0
        if header.dtype != np.uint8 or header.shape[1:] != (3 * side * side,) or 0 in header.shape:
            raise ValueError(f"data are {header.dtype} {header.shape}, not uint8 [N, 3 side^2]")
        return np.memmap(self._name, header.dtype, "r", header.offset, header.shape).reshape(-1, 3, side, side)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._images.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._images.dtype

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
