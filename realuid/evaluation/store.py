"""Features kept on disk, so that they are extracted once for all metrics and all runs."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from realuid.atomic import write_atomically

__all__ = ["FeatureStore"]


class FeatureStore:
    """A folder of npz files, each with features `[n, d]` (float32), what they are of, and their sha256.

    Args:
        folder: local; made when first written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, label: Mapping[str, Any]) -> Path:
        """The file of the features that `label` tells apart from all others."""
        text = json.dumps(label, sort_keys=True)
        return self.folder / f"features-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"

    def get(self, label: Mapping[str, Any], make: Callable[[], Tensor]) -> Tensor:
        """The features of `label`, on the CPU: read, or made now and kept. A damaged file is made again."""
        path = self.path(label)
        if path.exists():
            try:
                return _read(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                logger.warning("{} is damaged ({}): made again", path, error)
        features = make().cpu().float().contiguous()
        values = features.numpy()
        content = {
            "features": values,
            "sha256": np.array(hashlib.sha256(values.tobytes()).hexdigest()),
            "label": np.array(json.dumps(label, sort_keys=True)),
        }
        write_atomically(path, lambda part: _write(part, content))
        return features


def _write(path: Path, content: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # given a path, numpy would add a suffix to it
        np.savez(file, **content)  # type: ignore[arg-type]


def _read(path: Path) -> Tensor:
    with np.load(path, allow_pickle=False) as file:
        values = file["features"]
        if hashlib.sha256(values.tobytes()).hexdigest() != str(file["sha256"]):
            raise ValueError("its checksum does not agree")
        return torch.from_numpy(values)
