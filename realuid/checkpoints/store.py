"""Where a run keeps its checkpoints: a folder anywhere fsspec reaches, in which what has no marker does not exist.

step_00000010.pt        the state, in one file; or
step_00000010/          the state of sharded networks, one part for each process
step_00000010.json      the marker, written last: length and sha256 of every file of the state
run.json                whose checkpoints these are: a digest of the run's bindings
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import fsspec
import torch
import torch.distributed as dist
from loguru import logger
from torch import Tensor

from realuid.checkpoints import files
from realuid.checkpoints.nested import REST
from realuid.utils import budget, remote
from realuid.utils.errors import CheckpointError

CHUNK = 1 << 22
OWNER = "run.json"


def step_name(step: int) -> str:
    """What the files of a step's checkpoint are called, without their endings."""
    return f"step_{step:08d}"


def step_of(path: str) -> int | None:
    """The step of a checkpoint's file or folder, by its name."""
    match = re.fullmatch(r"step_(\d+)(\.pt)?", PurePosixPath(path.rstrip("/")).name)
    return int(match[1]) if match else None


class CheckpointStore:
    """Checkpoints of one run by their step.

    Args:
        url: of the folder; made when first written to.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @property
    def best(self) -> str:
        """The best checkpoint's file: averages only, see `RunFolder.best`."""
        return f"{self.url}/best.pt"

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending.

        Raises:
            CheckpointError: if the folder cannot be reached.
        """
        with self._reached():
            fs, root = fsspec.core.url_to_fs(self.url)
            fs.invalidate_cache(root)
            names = [PurePosixPath(path).name for path in fs.ls(root, detail=False)] if fs.isdir(root) else []
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step_(\d+)\.json", name)))

    def path(self, step: int) -> str:
        """Of a complete checkpoint: its file, or the folder of a sharded one.

        Raises:
            CheckpointError: if there is none of this step.
        """
        if step not in self.steps():
            raise CheckpointError(f"{self.url} has no checkpoint of step {step}, only {self.steps()}")
        return f"{self.url}/{self._marker(step)['state']}"

    def newest(self) -> str:
        """Path of the newest one.

        Raises:
            CheckpointError: if there is none.
        """
        if not self.steps():
            raise CheckpointError(f"{self.url} holds no checkpoint")
        return self.path(self.steps()[-1])

    def recover(self) -> int | None:
        """Step of the newest one that is what was written, None if there is none at all. Newer ones, which are damaged,
        are named in the log and dropped.

        Raises:
            CheckpointError: if all are damaged; nothing is dropped.
        """
        damaged: dict[int, CheckpointError] = {}
        for step in reversed(self.steps()):
            try:
                self.verify(step)
            except CheckpointError as error:
                damaged[step] = error
                continue
            for lost, damage in damaged.items():
                logger.error("{}; going back to step {}", damage, step)
                self.remove(lost)
            return step
        if damaged:
            raise next(iter(damaged.values()))
        return None

    def owner(self) -> str | None:
        """Whose checkpoints these are, as `claim` said; None if nobody did.

        Raises:
            CheckpointError: if the folder cannot be reached, or does not say it legibly.
        """
        with self._reached():
            fs, root = fsspec.core.url_to_fs(self.url)
            path = f"{root}/{OWNER}"
            if not fs.exists(path):
                return None
        with files.readable(f"{self.url}/{OWNER}"):
            return str(budget.parsed(fs.cat_file(path), OWNER)["run"])

    def claim(self, run: str) -> None:
        """Says whose checkpoints these are. Raises CheckpointError if the folder cannot be reached or written to."""
        if self.owner() != run:
            with self._reached():
                self._make()
                fs, root = fsspec.core.url_to_fs(self.url)
                fs.pipe_file(f"{root}/{OWNER}", json.dumps({"run": run}).encode())

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Makes one line of what goes wrong with the folder."""
        try:
            yield
        except Exception as error:  # every kind of storage has errors of its own
            reason = remote.reason(error)
            raise CheckpointError(f"the folder of checkpoints {self.url} cannot be used: {reason}") from error

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Writes a state into one file, then its marker."""
        self._begin(step)
        name = f"{step_name(step)}.pt"
        written = files.save(f"{self.url}/{name}", state)
        self._mark(step, name, {name: written._asdict()})

    def save_best(self, state: dict[str, Any]) -> None:
        """Writes the best checkpoint's file."""
        self._make()
        files.save(self.best, state)

    def save_broken(self, step: int, state: dict[str, Any]) -> str:
        """Writes a state that is kept for inspection only, and is never resumed from; returns its path."""
        path = f"{self.url}/broken_{step_name(step)}.pt"
        self._make()
        files.save(path, state)
        return path

    def save_shards(
        self, step: int, tensors: dict[str, Tensor], rest: Any, group: dist.ProcessGroup, main: bool
    ) -> None:
        """Writes this process's part of a state taken apart by `nested.split`; all processes of the group must."""
        from realuid.checkpoints import sharded  # imported where needed: it is slow

        name = step_name(step)
        folder = f"{self.url}/{name}"
        if main:
            self._begin(step)
        dist.barrier(group)
        sharded.save(folder, tensors, group)
        if main:
            files.save(f"{folder}/{REST}", rest)
            fs, root = fsspec.core.url_to_fs(folder)
            fs.invalidate_cache(root)
            names = [PurePosixPath(path).name for path in fs.ls(root, detail=False)]
            self._mark(step, name, {f"{name}/{n}": self._found(f"{name}/{n}")._asdict() for n in sorted(names)})
        dist.barrier(group)

    def load(self, step: int, device: torch.device, template: dict[str, Any] | None = None) -> dict[str, Any]:
        """Reads a state; `template` as in `sharded.load`. Its files are not compared with the marker: see `verify`.

        Raises:
            CheckpointError: if it is not there, damaged, or does not fit the template.
        """
        path = self.path(step)
        if path.endswith(".pt"):
            state = files.load(path, device)
            return state if template is None else self._laid_out(state, template)
        from realuid.checkpoints import sharded  # imported where needed: it is slow

        with files.readable(path):
            return sharded.load(path, template)

    def _laid_out(self, state: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
        from realuid.checkpoints import sharded

        return sharded.laid_out(state, template)

    def verify(self, step: int) -> None:
        """Compares lengths and checksums with the marker.

        Raises:
            CheckpointError: naming the file that is not what was written.
        """
        for name, expected in self._marker(step)["files"].items():
            try:
                found = self._found(name)
            except FileNotFoundError:
                raise CheckpointError(f"{self.url}/{name} is missing, though its checkpoint was complete") from None
            if found._asdict() != expected:
                raise CheckpointError(f"{self.url}/{name} is damaged: its checksum is not that of the marker")

    def remove(self, step: int) -> None:
        """Drops a checkpoint, its marker first."""
        fs, root = fsspec.core.url_to_fs(self.url)
        for name in (f"{step_name(step)}.json", f"{step_name(step)}.pt", step_name(step)):
            if fs.exists(f"{root}/{name}"):
                fs.rm(f"{root}/{name}", recursive=True)

    def _make(self) -> None:
        fs, root = fsspec.core.url_to_fs(self.url)
        fs.makedirs(root, exist_ok=True)

    def _begin(self, step: int) -> None:
        self._make()
        fs, root = fsspec.core.url_to_fs(self.url)
        for left in fs.glob(f"{root}/step_*{files.PART}"):  # of a killed process; best.pt is written elsewhere
            fs.rm(left)
        self.remove(step)  # of this step there was another one, before a roll-back

    def _mark(self, step: int, state: str, written: dict[str, Any]) -> None:
        fs, root = fsspec.core.url_to_fs(self.url)
        content = json.dumps({"state": state, "files": written}, indent=1).encode()
        marker = f"{root}/{step_name(step)}.json"
        fs.pipe_file(f"{marker}{files.PART}", content)
        fs.mv(f"{marker}{files.PART}", marker)

    def _marker(self, step: int) -> dict[str, Any]:
        fs, root = fsspec.core.url_to_fs(self.url)
        path = f"{self.url}/{step_name(step)}.json"
        with files.readable(path):
            marker = budget.parsed(fs.cat_file(f"{root}/{step_name(step)}.json"), "it")
            if not isinstance(marker["state"], str) or not all(
                isinstance(name, str) and ".." not in name for name in (marker["state"], *marker["files"])
            ):
                raise CheckpointError(f"{path} is no marker of a checkpoint")
            return marker

    def _found(self, name: str) -> files.Written:
        fs, root = fsspec.core.url_to_fs(self.url)
        digest, size = hashlib.sha256(), 0
        with fs.open(f"{root}/{name}", "rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
                size += len(block)
        return files.Written(size, digest.hexdigest())
