"""A checkpoint of either form, by its place."""

from __future__ import annotations

from typing import Any

import fsspec
import torch

from realuid.checkpoints import files, sharded
from realuid.checkpoints.store import CheckpointStore, step_name, step_of


def load(path: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint, a file or the folder of a sharded one (on the CPU); nothing in it is executed. Where a run's
    marker lies beside it, its files are compared with that first, else with the checksums that they carry themselves.

    Raises:
        CheckpointError: one line, if it is missing, damaged, or holds no weights.
    """
    folder, _, _ = path.rstrip("/").rpartition("/")
    step, store = step_of(path), CheckpointStore(folder or ".")
    marked = False
    if step is not None and exists(f"{store.url}/{step_name(step)}.json"):
        store.verify(step)
        marked = True
    with files.readable(path):
        fs, target = fsspec.core.url_to_fs(path)
        if fs.isdir(target):
            if not marked:
                files.check(f"{path}/{sharded.REST}")
            return sharded.load(path)
    if not marked:
        files.check(path)
    return files.load(path, device)


def exists(path: str) -> bool:
    """Whether there is a file at this path or URL; False also where its storage cannot be reached."""
    try:
        fs, target = fsspec.core.url_to_fs(path)
        return bool(fs.exists(target))
    except Exception:  # every kind of storage has errors of its own
        return False
