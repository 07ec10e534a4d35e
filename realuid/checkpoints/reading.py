"""A checkpoint of either form, by its place."""

from __future__ import annotations

from typing import Any

import fsspec
import torch

from realuid.checkpoints import files
from realuid.checkpoints.nested import REST
from realuid.checkpoints.store import CheckpointStore, step_name, step_of
from realuid.utils.errors import CheckpointError


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
            from realuid.checkpoints import sharded  # imported where needed: it is slow

            if not marked:
                if not is_sharded(path):
                    raise CheckpointError(f"{path} is no checkpoint, but {_nature(path)}")
                files.check(f"{path}/{REST}")
            return sharded.load(path)
    if not marked:
        files.check(path)
    return files.load(path, device)


def is_sharded(folder: str) -> bool:
    """Whether a folder at this path or URL is a sharded checkpoint of this project."""
    return exists(f"{folder.rstrip('/')}/{REST}")


def _nature(folder: str) -> str:
    """What a folder is that holds no checkpoint's files."""
    root = folder.rstrip("/")
    if exists(f"{root}/config.gin"):
        return "a run folder: name it with --run, or one of the files in its folder checkpoints"
    if exists(f"{root}/model.json"):
        return "an exported student, which realuid.load opens: name the run that it was exported from"
    return "a folder without one"


def exists(path: str) -> bool:
    """Whether there is a file at this path or URL; False also where its storage cannot be reached."""
    try:
        fs, target = fsspec.core.url_to_fs(path)
        return bool(fs.exists(target))
    except Exception:  # every kind of storage has errors of its own
        return False
