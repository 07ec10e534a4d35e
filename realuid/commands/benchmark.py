"""`benchmark NAME ...`: measures one part of the system on this machine."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from realuid.commands.console import guarded

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = {
    "data": "reading data: images a second a core, by kind of reading",
    "step": "a distillation step, the authors' way and ours in turns",
    "overhead": "the loop's own share of a step, the wait for data, the start",
    "sample": "images a second of student and teacher",
    "growth": "time and memory against batch, resolution, width and processes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, text in BENCHMARKS.items():
        module = importlib.import_module(f"realuid.benchmarks.{name}")
        one = names.add_parser(name, help=text, description=module.__doc__)
        module.configure(one)
        one.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    return guarded("benchmark", lambda: arguments.run(arguments))
