"""Features and values of metrics that were measured before, on disk. A key names everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from realuid.utils import budget
from realuid.utils.arrays import Npz
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import tolerated

__all__ = ["FeatureStore", "ValueStore"]


class FeatureStore:
    """A folder of npz files, each with features `[n, d]` (float32), what they are of, and their sha256.

    Args:
        folder: local; made when first written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, label: Mapping[str, Any]) -> Path:
        """The file of the features with this label."""
        return self.folder / f"features-{_digest(label)}.npz"

    def get(self, label: Mapping[str, Any], make: Callable[[], Tensor]) -> Tensor:
        """The features of `label`, float32 `[n, d]` on the CPU: read from disk, or made by `make` and written there.

        A damaged file is made again. If the features cannot be written, the log says so.
        """
        path = self.path(label)
        if path.exists():
            try:
                return _read(path)
            except (OSError, ValueError, KeyError) as error:
                logger.warning("{} is damaged ({}): made again", path, error)
        features = make().cpu().float().contiguous()
        values = features.numpy()
        content = {
            "features": values,
            "sha256": np.array(hashlib.sha256(values.tobytes()).hexdigest()),
            "label": np.array(_text(label)),
        }
        _keep(path, lambda part: _write(part, content))
        return features


class ValueStore:
    """A folder of JSON files, each with values of metrics by name, and what they are of.

    Args:
        folder: local; made when first written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def read(self, label: Mapping[str, Any]) -> dict[str, float] | None:
        """The values of `label`; None if there are none, or the file is damaged."""
        try:
            content = budget.parsed(self._path(label).read_text(encoding="utf-8"), "it")
            if _text(content["of"]) != _text(label):
                return None
            return {str(name): float(value) for name, value in content["values"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, label: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """Writes values. If they cannot be written, the log says so."""
        text = json.dumps({"of": label, "values": values}, indent=1)
        _keep(self._path(label), lambda part: part.write_text(text + "\n", encoding="utf-8"))

    def _path(self, label: Mapping[str, Any]) -> Path:
        return self.folder / f"values-{_digest(label)}.json"


def _text(label: Mapping[str, Any]) -> str:
    return json.dumps(label, sort_keys=True)


def _digest(label: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(label).encode()).hexdigest()[:16]


def _keep(path: Path, write: Callable[[Path], object]) -> None:
    with tolerated(str(path)):  # a full disk costs the next evaluation some time, and not this one its result
        write_atomically(path, write)


def _write(path: Path, content: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # given a path, numpy would add a suffix to it
        np.savez(file, **content)  # type: ignore[arg-type]


def _read(path: Path) -> Tensor:
    with path.open("rb") as file:
        arrays = Npz(file)
        values = arrays["features"]
        if hashlib.sha256(values.tobytes()).hexdigest() != str(arrays["sha256"]):
            raise ValueError("its checksum does not agree")
        return torch.from_numpy(values.copy())
