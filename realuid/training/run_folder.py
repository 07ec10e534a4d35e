"""The run folder: the files of a run, where they lie, and how they survive an interruption.

config.gin  run.json  metrics.jsonl  samples/  checkpoints/ (or checkpoints.url)
best.json  summary.json  exit.json  report.html
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from loguru import logger

from realuid.checkpoints import CheckpointStore
from realuid.utils import budget
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import CheckpointError, RunError
from realuid.utils.links import stray
from realuid.utils.locks import locked
from realuid.utils.old_files import with_keys_of_today


class RunFolder:
    """Paths and small files of one run.

    Args:
        path: the folder; made when first written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        return self.path / "config.gin"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def best(self) -> Path:
        """What the best checkpoint by the evaluator's first metric is, and its provenance; the file is `store.best`."""
        return self.path / "best.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def start(self) -> Path:
        """When, how and on what the run was started."""
        return self.path / "run.json"

    def samples(self, name: str) -> Path:
        return self.path / "samples" / f"{name}.png"

    def write_text(self, path: Path, text: str) -> None:
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))

    def write_json(self, path: Path, content: Any) -> None:
        self.write_text(path, json.dumps(content, indent=1) + "\n")

    def read_json(self, path: Path) -> Any:
        return with_keys_of_today(_json(path)) if path.exists() else None

    @property
    def store(self) -> CheckpointStore:
        """The run's checkpoints: in the folder `checkpoints`, or where the file `checkpoints.url` says."""
        elsewhere = self.path / "checkpoints.url"
        if elsewhere.exists():
            return CheckpointStore(elsewhere.read_text(encoding="utf-8").strip())
        return CheckpointStore(str(self.path / "checkpoints"))

    def keep_checkpoints_at(self, url: str | None, digest: str) -> None:
        """Says where the checkpoints of this run are, before its first step.

        Args:
            url: of a folder in which each run has one of its own, called like the run folder; None for `checkpoints`.
            digest: of the bindings that change the result: whose checkpoints these are.

        Raises:
            RunError: if the place holds those of a run with other bindings, or this run's are somewhere else.
        """
        before, place = self.store, self.path / "checkpoints.url"
        wanted = CheckpointStore(str(self.path / "checkpoints") if url is None else f"{url.rstrip('/')}/{self._name}")
        if url is not None and before.url == url.rstrip("/") and before.steps():
            wanted = before  # version 0.1 had no folder for each run
        if before.url != wanted.url and before.steps() and not wanted.steps():
            raise RunError(
                f"the checkpoints of {self} are in {before.url}: move them to {wanted.url}, or bind Checkpoints.folder "
                "as it was"
            )
        if url is None:
            place.unlink(missing_ok=True)
            return
        if wanted.owner() not in (None, digest):
            raise RunError(
                f"{wanted.url} holds the checkpoints of another run (its bindings differ in what changes the result): "
                "choose another --out or Checkpoints.folder"
            )
        wanted.claim(digest)
        self.write_text(place, wanted.url + "\n")

    @property
    def _name(self) -> str:
        return self.path.resolve().name

    def save_best(self, state: dict[str, Any], entry: dict[str, Any]) -> None:
        """Writes the best checkpoint, then best.json. After a crash in between, the next better one replaces both."""
        self.store.save_best(state)
        self.write_json(self.best, entry)

    def begin(self, config: str) -> None:
        """Marks the run as active: writes the config, removes old results."""
        self.write_text(self.config, config)
        if not self.store.steps():  # a fresh run must not inherit an old best checkpoint
            self.best.unlink(missing_ok=True)
        self.exit.unlink(missing_ok=True)
        self.summary.unlink(missing_ok=True)

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keeps other processes from running in this folder at the same time.

        Args:
            wait: whether to wait for a process that is at work here.

        Raises:
            RunError: if another process is at work here and `wait` is false, or a link leads out of the folder.
        """
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            self.check_links()
            with ExitStack() as held:
                file = self._lock()
                try:
                    held.enter_context(locked(file, wait=False))
                except BlockingIOError:
                    if not wait:
                        raise RunError(f"another process trains in {self}: wait, or choose another --out") from None
                    logger.info("waiting for another process that trains in {}", self)
                    file = self._lock()
                    held.enter_context(locked(file))
                if self._is_lock(file):
                    yield
                    return

    def _is_lock(self, file: int) -> bool:
        """Whether an open file is still the folder's lock: a start that failed takes its folder away."""
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path / ".lock"))
        except FileNotFoundError:
            return False

    def _lock(self) -> int:
        try:
            return os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise RunError(f"{self.path / '.lock'} cannot be opened: {error.strerror}") from None

    def check_links(self) -> None:
        """A folder that came from elsewhere may hold links to files of this machine, which would be read into a report,
        written or cut.

        Raises:
            RunError: if a symbolic link in the folder leads out of it, or there is a pipe or a device.
        """
        if self.path.is_dir() and (found := stray(self.path)) is not None:
            raise RunError(
                f"{found}, and is left alone: put what is meant in its place (for checkpoints elsewhere there is "
                "Checkpoints.folder)"
            )

    def remove_untrained(self) -> None:
        """Takes the folder away if nothing was trained in it, and nobody is at work there."""
        with suppress(CheckpointError, OSError):  # what cannot be reached, or is in use, is left alone
            if not self.path.is_dir() or self.metrics.exists() or self.store.steps():
                return
            with locked(self._lock(), wait=False):
                shutil.rmtree(self.path, ignore_errors=True)

    def set_aside(self) -> Path | None:
        """Moves an existing folder to NAME.1 (or the next free number); returns where it went."""
        if not self.path.exists():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return self.path.rename(aside)


def _json(path: Path) -> Any:
    try:
        return budget.parsed(path.read_text(encoding="utf-8"), str(path))
    except ValueError as error:
        raise RunError(str(error)) from None
