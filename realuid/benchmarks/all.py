"""The measurements in the order of their worth, as many as the time allows, as tables for docs/performance.md.

Each runs in a process of its own that ends with the time. What it has printed by then counts. The tables are written
anew after every measurement, with device, command and commit, and what was not measured is said.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from realuid.benchmarks.tables import table
from realuid.utils.atomic import write_atomically
from realuid.utils.commit import commit_of_code

SPARE = 2.0
"""Seconds without which no measurement begins."""


@dataclass(frozen=True)
class Measurement:
    """One call of a benchmark."""

    title: str
    name: str
    """Of the benchmark."""
    options: tuple[str, ...] = ()
    steps: bool = True
    """Whether it takes the recipe, the bindings and the batch."""

    def words(self, arguments: argparse.Namespace) -> list[str]:
        """Its command line after `benchmark`."""
        own = ["--gin", arguments.gin, *(word for bind in arguments.bind for word in ("--bind", bind))]
        if not self.steps:
            return [self.name, *self.options]
        takes_batch = self.name in ("step", "kernels")
        size = ["--batch", str(arguments.batch)] if takes_batch and "--batch" not in self.options else []
        return [self.name, *own, *size, "--device", arguments.device, *self.options]


def steps(title: str, *ways: str, rounds: int = 2, options: Sequence[str] = ()) -> Measurement:
    return Measurement(title, "step", ("--ways", *ways, "--rounds", str(rounds), *options))


PLAN = (
    steps("A step: ours, all at once", "all"),
    steps("The same mathematics", "exact"),
    Measurement("Where the time goes", "kernels"),
    steps("Blocks compiled", "all_compiled"),
    Measurement("Sampling", "sample"),
    steps("One change at a time", "bfloat16", "tf32", "channels_last", "sixth", "all_float32", rounds=1),
    steps("CUDA graphs, a small batch", "all", "all_graphs", options=("--batch", "16")),
    Measurement("The loop", "overhead", ("--steps", "20", "--starts", "1"), steps=False),
    Measurement("Growth with the batch", "growth", ("--axes", "batch", "--rounds", "1")),
    Measurement("Reading", "reading", ("--places", "local", "--workers", "none", "fork"), steps=False),
)
"""What to measure, the most valuable first: what a step costs beside the authors' is what the project promises."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=10.0, help="until it ends (%(default)s)")
    parser.add_argument("--gin", default="gin/fm_cifar10.gin", metavar="FILE", help="recipe of the steps (%(default)s)")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--batch", type=int, default=256, help="generated samples of a step (%(default)s)")
    parser.add_argument("--device", default="auto", help="%(default)s")
    parser.add_argument("--out", default="benchmarks", metavar="DIR", help="where tables and lines go (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=sorted({m.name for m in PLAN}), metavar="NAME", help="benchmarks (default: all)"
    )


def run(arguments: argparse.Namespace) -> int:
    end = time.monotonic() + 60 * arguments.minutes
    out, commit = Path(arguments.out), commit_of_code()
    parts = [f"Measured on {date.today()}, commit {commit}, in at most {arguments.minutes:g} minutes.\n"]
    missing: list[str] = []
    for measurement in PLAN:
        if arguments.only and measurement.name not in arguments.only:
            continue
        left = end - time.monotonic()
        if left < SPARE:
            missing.append(f"{measurement.title}: no time was left")
            continue
        words = measurement.words(arguments)
        print(f"{measurement.title} ({left:.0f} s left)", flush=True)
        lines, ended = measured(words, out / "lines.jsonl", left - SPARE / 2)
        parts.append(section(measurement, words, lines, commit))
        if ended is not None:
            missing.append(f"{measurement.title}: {ended}")
        _write(out / "performance.md", parts, missing)
    _write(out / "performance.md", parts, missing)
    print(f"tables: {out / 'performance.md'}")
    return 0


def measured(words: list[str], kept: Path, seconds: float) -> tuple[list[dict[str, Any]], str | None]:
    """The lines that a benchmark prints in so many seconds, and why there are no more, if it did not end well.

    Args:
        words: its command line.
        kept: file that the lines are added to.
        seconds: after which it is ended.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    begin = kept.stat().st_size if kept.exists() else 0
    # A fork has everything imported. This process itself never asks for a device: CUDA does not bear forks.
    process = multiprocessing.get_context("fork").Process(target=_child, args=(words, kept))
    process.start()
    process.join(seconds)
    ended = None
    if process.is_alive():
        assert process.pid
        with suppress(ProcessLookupError):  # it has no group of its own yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        ended = "the time was over"
    elif process.exitcode:
        ended = f"ended with status {process.exitcode}"
    with kept.open() as file:
        file.seek(begin)
        found = [json.loads(line) for line in file if line.startswith("{") and line.endswith("}\n")]
    return found, ended


def _child(words: list[str], kept: Path) -> None:
    os.setsid()  # so that the processes of a benchmark end with it
    module = importlib.import_module(f"realuid.benchmarks.{words[0]}")
    parser = argparse.ArgumentParser(words[0])
    module.configure(parser)
    with kept.open("a", buffering=1) as file, redirect_stdout(file):
        try:
            status = module.run(parser.parse_args(words[1:]))
        except Exception as error:  # the other measurements go on
            print(f"{words[0]}: {type(error).__name__}: {error}", file=sys.stderr)
            status = 2
    sys.exit(status)


def section(measurement: Measurement, words: list[str], lines: list[dict[str, Any]], commit: str) -> str:
    """A table with its command and the device."""
    about, rows = (lines[0], lines[1:]) if lines and "torch" in lines[0] else ({}, lines)
    plain = {name for name in about if name in ("device", "realuid")}
    machine = [str(about["device"])] * ("device" in about)
    machine += [f"{name} {value}" for name, value in about.items() if name not in plain]
    command = "\n".join(["```bash", f"python tools/benchmark.py {shlex.join(words)}", "```"])
    text = table(rows or [about]) if lines else "Nothing was measured."
    return f"**{measurement.title}** ({', '.join([*machine, f'commit {commit}'])}):\n\n{command}\n\n{text}\n"


def _write(path: Path, parts: Sequence[str], missing: Sequence[str]) -> None:
    said = ["Not measured, or not to the end:\n\n" + "".join(f"- {line}\n" for line in missing)] if missing else []
    text = "\n".join([*parts, *said])
    write_atomically(path, lambda temporary: temporary.write_text(text))
