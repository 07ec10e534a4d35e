"""Runs a table of gin files, bindings and seeds, and writes tables and curves of the results."""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from realuid.jobs.study_run import Run
from realuid.reports.charts import standalone
from realuid.reports.page import save_text
from realuid.reports.study import Plan, curves, tables
from realuid.reports.study_pages import filled, records_in
from realuid.training.signals import Interrupted, StopSignal
from realuid.utils.errors import RunError

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
