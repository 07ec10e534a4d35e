"""`benchmark NAME ...`: measures one part of the system on this machine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from realuid.commands.console import Parser, guarded

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = {
    "all": "the most valuable measurements that the time allows, as tables",
    "data": "reading data: images a second a core, by kind of reading",
    "step": "a distillation step, the authors' way and ours in turns",
    "overhead": "the loop's own share of a step, the wait for data, the start",
    "sample": "images a second of student and teacher",
    "kernels": "where the time of a step goes",
    "reading": "our loader beside webdataset, torchvision and a loop by hand",
    "growth": "time and memory against batch, resolution, width and processes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog="benchmark", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, text in BENCHMARKS.items():
        if name not in given[:1]:
            names.add_parser(name, help=text)
            continue
        module = importlib.import_module(f"realuid.benchmarks.{name}")  # imports torch; the others are left out
        one = names.add_parser(name, help=text, description=module.__doc__)
        module.configure(one)
        one.set_defaults(run=module.run)
    arguments = parser.parse_args(given)
    return guarded("benchmark", lambda: arguments.run(arguments))
