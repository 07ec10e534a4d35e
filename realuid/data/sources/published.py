"""The files in which well-known sets are published: CIFAR-10, MNIST and Fashion-MNIST, downsampled ImageNet."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realuid.data.sources.kinds import Arrays, Source
from realuid.errors import DataError

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


def idx(path: Path) -> dict[str, Source]:
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


def npz(path: Path) -> dict[str, Source]:
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
