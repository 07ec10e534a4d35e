"""One run of a study: a row of its table with one seed, its folder and its record."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from realuid import config as configuration
from realuid.config import Config
from realuid.reports.history import curve, measured_as, read_json, read_lines, read_text
from realuid.reports.page import save_text
from realuid.reports.study import Row
from realuid.training.replaced import HELD, replaced
from realuid.training.run_folder import RunFolder
from realuid.utils.commit import commit_of
from realuid.utils.errors import DataError, RunError

TRAIN = "import sys; from realuid.commands.train import main; sys.exit(main(sys.argv[1:]))"


class Run:
    """One row with one seed.

    Args:
        plan: name of the study.
        row: the setting.
        seed: of the run.
        out: where run folders lie.
        docs: where records lie.
        after: the run that this one starts from.
    """

    def __init__(self, plan: str, row: Row, seed: int, out: Path, docs: Path, after: Run | None = None) -> None:
        self.plan, self.row, self.seed, self.after, self.out = plan, row, seed, after, out
        self.docs, self.record = docs, docs / plan / f"{row.slug}-{seed}.json"

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @cached_property
    def bind(self) -> tuple[str, ...]:
        """All bindings on the command line."""
        after = self.after
        bind = (
            self.row.bind if after is None else [text.replace("{after}", str(after.folder)) for text in self.row.bind]
        )
        return (*bind, f"Trainer.seed = {self.seed}")

    @cached_property
    def config(self) -> Config:
        """Of the run. Raises ConfigError if the gin files and bindings are wrong."""
        return configuration.load(self.row.gin, self.bind)

    @cached_property
    def digest(self) -> str:
        """Of the configuration: whatever is bound otherwise is another run, so that a changed table never meets an old
        result. Raises ConfigError as `config` does."""
        return hashlib.sha256(self.config.text.encode()).hexdigest()[:8]

    @cached_property
    def folder(self) -> RunFolder:
        """Of the run."""
        return RunFolder(self.out / f"{self.plan}-{self.row.slug}-{self.seed}-{self.digest}")

    def read(self) -> dict[str, Any]:
        """The record of this very run; empty where there is none, or a damaged one."""
        record = read_json(self.record)
        study = record.get("study")
        if not isinstance(study, dict) or not {"digest", "command", "commit"} <= study.keys():
            return {}
        return record if study["digest"] == self.digest else {}

    @property
    def is_there(self) -> bool:
        """Whether its folder holds the finished run."""
        return self.folder.summary.exists()

    def check_data(self) -> None:
        """Makes sure that what its record was measured with is what its data sets hold now.

        Raises:
            RunError: if they were replaced.
        """
        if not (record := self.read()):
            return
        now: dict[str, str | None] = {}
        for name in HELD:
            if (alone := configuration.alone(self.config, name)) is not None:
                with suppress(DataError):  # that they are gone is nothing to a record
                    now[name] = configuration.build(alone).stated_checksum()
        if (changed := replaced({name: record.get(f"{name}_sha256") for name in HELD}, now)) is not None:
            raise RunError(
                f"{self.record} is of other {HELD[changed]} than its data set holds now: move it and {self.folder} "
                f"aside to train anew, or bring the old {HELD[changed]} back"
            )

    @property
    def arguments(self) -> list[str]:
        """Of tools/train.py."""
        options = [("--gin", name) for name in self.row.gin] + [("--bind", text) for text in self.bind]
        return [part for option in options for part in option]

    @property
    def log(self) -> Path:
        return self.folder.path / "log.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """Trains in a process of its own, whose words go to the run folder."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", TRAIN, *self.arguments, "--out", str(self.folder)]
            # A session of its own: Ctrl-C reaches it once, from here, and the run can finish its step.
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def reason(self) -> str:
        """Why it failed: what it left, or the last that it said if it came to nothing."""
        said = read_text(self.log).strip().splitlines()
        return read_json(self.folder.exit).get("reason") or (said[-1] if said else f"see {self.log}")

    def keep(self, metric: str) -> None:
        """Writes the record of a finished run, and keeps its samples beside it."""
        summary = read_json(self.folder.summary)
        lines = read_lines(self.folder.metrics)
        time_of = dict(curve(lines, "wall_s"))
        study = {
            "row": self.row.name,
            "seed": self.seed,
            "digest": self.digest,
            "command": f"python tools/train.py {shlex.join(self.arguments)}",
            "commit": commit_of(Path.cwd(), self.docs),  # files in `docs`, which a study writes itself, may differ
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}",
        }
        name = measured_as(lines, metric)
        points = [[x, y, time_of.get(x, 0.0)] for x, y in curve(lines, name)]
        text = json.dumps({**summary, "study": study, "curve": points, "curve_metric": name}, indent=1) + "\n"
        save_text(self.record, text)
        grid = self.folder.samples("student")
        if grid.exists() and self.seed == self.row.seeds[0]:
            shutil.copyfile(grid, self.record.with_name(f"{self.row.slug}.png"))
