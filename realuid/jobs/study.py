"""Runs a table of gin files, bindings and seeds, and writes tables and curves of the results."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from realuid import config as configuration
from realuid.config import Config
from realuid.reports.charts import standalone
from realuid.reports.history import curve, measured_as, read_json, read_lines, read_text
from realuid.reports.page import save_text
from realuid.reports.study import Plan, Row, curves, tables
from realuid.reports.study_pages import filled, records_in
from realuid.training.replaced import HELD, replaced
from realuid.training.run_folder import RunFolder
from realuid.training.signals import Interrupted, StopSignal
from realuid.utils.commit import commit_of
from realuid.utils.errors import DataError, RunError

TRAIN = "import sys; from realuid.commands.train import main; sys.exit(main(sys.argv[1:]))"
LOOK_S = 0.5
"""Seconds between two looks at the runs at work."""


def work(arguments: argparse.Namespace, plan: Plan) -> int:
    """Runs a plan, or renews its tables; returns the exit status: 1 if a run failed."""
    if arguments.fill is not None:
        return _fill(arguments.fill, plan, arguments.docs)
    study = Study(plan, arguments.out, arguments.docs)
    runs = [
        run
        for run in study.runs()
        if (not arguments.only or run.row.name in arguments.only)
        and (not arguments.seeds or run.seed in arguments.seeds)
    ]
    if not runs:
        raise RunError(f"--seeds {' '.join(map(str, arguments.seeds))}: no row that is meant has such a seed")
    try:
        with StopSignal():
            failed = [] if arguments.tables else study.work(runs, arguments.jobs)
    except Interrupted as interruption:
        logger.warning("{}; the same command continues", interruption)
        return interruption.code
    logger.info("study: {}", study.write())
    return 1 if failed else 0


def _fill(page: Path, plan: Plan, docs: Path) -> int:
    """Renews the tables of a page; returns the exit status."""
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"there is no page {page}") from None
    except UnicodeDecodeError:
        raise RunError(f"{page} is no text in UTF-8") from None
    save_text(page, filled(text, plan, records_in(docs, plan)))
    return 0


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
            "commit": _commit(self.docs),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}",
        }
        name = measured_as(lines, metric)
        points = [[x, y, time_of.get(x, 0.0)] for x, y in curve(lines, name)]
        text = json.dumps({**summary, "study": study, "curve": points, "curve_metric": name}, indent=1) + "\n"
        save_text(self.record, text)
        grid = self.folder.samples("student")
        if grid.exists() and self.seed == self.row.seeds[0]:
            shutil.copyfile(grid, self.record.with_name(f"{self.row.slug}.png"))


class Study:
    """All runs of a plan.

    Args:
        plan: what is to be run.
        out: where run folders go; teachers lie there too, so that all studies share them.
        docs: where records, tables and curves go.
    """

    def __init__(self, plan: Plan, out: Path, docs: Path) -> None:
        self.plan, self.out, self.docs = plan, out, docs
        self._runs: list[Run] = []
        for row in plan.rows:
            before = [run for run in self._runs if run.row.name == row.after]
            for seed in row.seeds:
                after = next((run for run in before if run.seed == seed), before[0] if before else None)
                self._runs.append(Run(plan.name, row, seed, out, docs, after))

    def runs(self) -> list[Run]:
        """All, one seed of every row before the next seed: an unfinished study can be read."""
        return sorted(self._runs, key=lambda run: run.row.seeds.index(run.seed))

    def work(self, runs: Sequence[Run], jobs: int) -> list[str]:
        """Runs what has no record yet, `jobs` at a time; returns the runs that failed."""
        for run in runs:
            _ = run.digest  # mistakes are told before the first run
            run.check_data()
        waiting = [run for run in runs if not run.read()]
        logger.info("{} of {} runs are to be made", len(waiting), len(runs))
        for run in waiting:  # which grows; of a run that others start from the folder is needed, not only the record
            if run.after and run.after not in waiting and not run.after.is_there:
                logger.info("{} is made for {}", run.after, run)
                waiting.append(run.after)
        failed: list[str] = []
        working: dict[Run, subprocess.Popen[bytes]] = {}
        try:
            while waiting or working:
                ready = [run for run in waiting if run.after is None or (run.after.read() and run.after.is_there)]
                for run in ready[: jobs - len(working)]:
                    waiting.remove(run)
                    logger.info("{}: {}", run, run.folder)
                    working[run] = run.start()
                if not working:
                    for run in waiting:
                        failed.append(str(run))
                        logger.error("{} starts from {}, which has no result", run, run.after)
                    break
                time.sleep(LOOK_S)
                for run, process in list(working.items()):
                    if process.poll() is not None:
                        del working[run]
                        if process.returncode == 0:
                            run.keep(self.plan.metrics[0])
                            self._try_to_write()
                        else:
                            failed.append(str(run))
                            logger.error("{} failed with status {}: {}", run, process.returncode, run.reason())
        finally:
            for process in working.values():  # an interrupted study interrupts its runs, which save what they have
                process.terminate()
            for process in working.values():
                process.wait()
        return failed

    def _try_to_write(self) -> None:
        """Writes the tables of the records so far. If that fails, the log says so and the runs continue."""
        try:
            self.write()
        except (RunError, OSError) as error:
            logger.error("no tables yet: {}", error)

    def write(self) -> Path:
        """Writes the tables of all records, and their curves; returns the Markdown file.

        Raises:
            RunError: if records were not measured alike.
        """
        records = {(run.row.name, run.seed): record for run in self._runs if (record := run.read())}
        path = self.docs / f"{self.plan.name}.md"
        parts = [f"## {self.plan.name}", "", tables(self.plan, records)]
        for against, chart in curves(self.plan, records).items():
            if chart:
                picture = path.with_name(f"{self.plan.name}-{against}.svg")
                save_text(picture, standalone(chart))
                parts += [f"![{self.plan.metrics[0]} against {against}]({picture.name})", ""]
        for row in self.plan.rows:
            if (self.docs / self.plan.name / f"{row.slug}.png").exists():
                parts += [f"{row.name}:", "", f"![{row.name}]({self.plan.name}/{row.slug}.png)", ""]
        commits = sorted({record["study"]["commit"] for record in records.values()})
        parts += [
            "### Commands",
            "",
            f"Commit {', '.join(commits)}. The first seed of each row; others bind Trainer.seed.",
            "",
        ]
        firsts = [records.get((row.name, row.seeds[0])) for row in self.plan.rows]
        parts += [f"    {record['study']['command']}" for record in firsts if record]
        save_text(path, "\n".join(parts).rstrip() + "\n")
        return path


def _commit(docs: Path) -> str:
    """The commit of the working directory's repository; files in `docs`, which a study writes itself, may differ."""
    return commit_of(Path.cwd(), docs)
