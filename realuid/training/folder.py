"""The run folder: the files of a run, where they lie, and how they survive an interruption.

config.gin  metrics.jsonl  samples/  checkpoints/ (or checkpoints.url)  best.json  summary.json  exit.json  report.html
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loguru import logger

from realuid.atomic import write_atomically
from realuid.checkpoints import CheckpointStore
from realuid.errors import RunError


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
        """What the best checkpoint by the evaluator's first metric is, and its stamp; the file is `store.best`."""
        return self.path / "best.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    def samples(self, name: str) -> Path:
        return self.path / "samples" / f"{name}.png"

    def write_text(self, path: Path, text: str) -> None:
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))

    def write_json(self, path: Path, content: Any) -> None:
        self.write_text(path, json.dumps(content, indent=1) + "\n")

    def read_json(self, path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def store(self) -> CheckpointStore:
        """The run's checkpoints: in the folder `checkpoints`, or where the file `checkpoints.url` says."""
        elsewhere = self.path / "checkpoints.url"
        if elsewhere.exists():
            return CheckpointStore(elsewhere.read_text(encoding="utf-8").strip())
        return CheckpointStore(str(self.path / "checkpoints"))

    def keep_checkpoints_at(self, url: str | None) -> None:
        """Says where the checkpoints of this run are; None for its own folder."""
        if url is None:
            (self.path / "checkpoints.url").unlink(missing_ok=True)
        else:
            self.write_text(self.path / "checkpoints.url", url + "\n")

    def save_best(self, state: dict[str, Any], entry: dict[str, Any]) -> None:
        """Writes the best checkpoint, then what it is: after a crash in between, the next one is better than what
        best.json says, and is kept."""
        self.store.save_best(state)
        self.write_json(self.best, entry)

    def begin(self, config: str) -> None:
        """Makes the folder that of a run at work: its config, and no word of how it ended."""
        self.write_text(self.config, config)
        if not self.store.steps():  # a run from the start owes nothing to one that did not come so far
            self.best.unlink(missing_ok=True)
        self.exit.unlink(missing_ok=True)
        self.summary.unlink(missing_ok=True)

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keeps other processes from running in this folder at the same time.

        Args:
            wait: whether to wait for a process that is at work here.

        Raises:
            RunError: if another process is at work here and `wait` is false.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise RunError(f"another process trains in {self}: wait, or choose another --out") from None
                logger.info("waiting for another process that trains in {}", self)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def set_aside(self) -> Path | None:
        """Moves an existing folder to NAME.1 (or the next free number); returns where it went."""
        if not self.path.exists():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return self.path.rename(aside)
