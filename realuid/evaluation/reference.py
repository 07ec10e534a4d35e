"""Reference statistics: what generated images are compared with, in a file.

Three kinds of npz files are read, never with pickle: ours (`mu`, `sigma`, `count`, `provenance`), EDM's and clean-fid's
(`mu`, `sigma`), and ADM's (`arr_0`, images as uint8 `[N, H, W, C]`, beside `mu`, `sigma` of a larger set, `mu_s`,
`sigma_s`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor

from realuid.evaluation.moments import Moments
from realuid.utils import budget, remote
from realuid.utils.arrays import Npz
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import DataError

__all__ = ["Reference", "read_reference", "write_reference"]

NETWORK = ("network", "network_sha256", "resize")
"""What a provenance says of the network that statistics were made with."""


@dataclass(frozen=True)
class Reference:
    """What a reference file holds."""

    sha256: str
    """Of the whole file."""
    moments: Moments | None
    images: Tensor | None
    """uint8 `[N, C, H, W]`, in ADM's files."""
    count: int | None
    """Number of real images behind the moments, else of those in the file; None if the file does not say it."""
    provenance: dict[str, Any] | None
    """How the moments were measured; None where the file does not say it, as those of EDM and ADM."""

    def check(self, network: Mapping[str, object], width: int, path: str) -> None:
        """Raises DataError unless the moments are of this network (its provenance, and width of its features)."""
        if self.moments is None:
            return
        found = len(self.moments.mean)
        if found != width:
            raise DataError(f"{path} holds statistics of {found} features, {network['network']} has {width}")
        for name in NETWORK if self.provenance else ():
            assert self.provenance is not None
            if self.provenance.get(name) != network[name]:
                raise DataError(
                    f"{path} was made with {name} = {self.provenance.get(name)!r}, the evaluator has {network[name]!r}"
                )


def read_reference(path: str) -> Reference:
    """Reads an npz file from any place that fsspec reaches.

    Raises:
        DataError: if it is missing, no npz, a pickle, or holds neither moments nor images.
    """
    try:
        with fsspec.open(path, "rb") as file:
            content = file.read()
    except (OSError, ImportError, ValueError) as error:
        if remote.is_missing(error):
            raise DataError(f"there is no reference file {path}") from None
        raise DataError(f"cannot read {path}: {remote.reason(error)}") from None
    try:
        if content.startswith(b"\x93NUMPY"):
            raise ValueError("it is a single array")
        arrays = Npz(io.BytesIO(content))
        moments = _moments(arrays) if "mu" in arrays and "sigma" in arrays else None
        images = _images(arrays["arr_0"]) if "arr_0" in arrays else None
        count = int(arrays["count"]) if "count" in arrays else None if images is None else len(images)
        stated = arrays.get("provenance", arrays.get("stamp"))  # `stamp` in files of version 0.1
        provenance = None if stated is None else budget.parsed(str(stated), "its provenance")
        if provenance is not None and not isinstance(provenance, dict):
            raise ValueError("its provenance is no object")
    except (ValueError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is no reference file (an npz of arrays; pickles are not read): {reason}") from None
    if moments is None and images is None:
        raise DataError(f"{path} holds neither mu and sigma nor images (arr_0)")
    return Reference(hashlib.sha256(content).hexdigest(), moments, images, count, provenance)


def _moments(arrays: Mapping[str, np.ndarray]) -> Moments:
    mean, covariance = (torch.from_numpy(np.array(arrays[name], dtype=np.float64)) for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)} do not belong together")
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise ValueError("mu or sigma is not finite")
    return Moments(mean, covariance)


def _images(array: np.ndarray) -> Tensor:
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3):
        raise ValueError(f"arr_0 must be uint8 [N, H, W, 1 or 3], not {array.dtype} {array.shape}")
    return torch.from_numpy(array.transpose(0, 3, 1, 2).copy())


def write_reference(path: Path, moments: Moments, count: int, provenance: Mapping[str, Any]) -> None:
    """Writes `mu`, `sigma`, `count` and `provenance`, atomically. Other programs read the first two."""
    content = {
        "mu": moments.mean.cpu().numpy(),
        "sigma": moments.covariance.cpu().numpy(),
        "count": np.array(count),
        "provenance": np.array(json.dumps(dict(provenance), sort_keys=True)),
    }

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]

    write_atomically(path, write)
