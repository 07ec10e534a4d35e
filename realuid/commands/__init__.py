"""The command line: `realuid train ...` is `python tools/train.py ...`, and so on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = ("train", "sample", "evaluate", "study", "check", "make_shards", "benchmark", "export")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0].replace("-", "_") if arguments else ""
    if name not in COMMANDS:
        print(f"usage: realuid {{{','.join(COMMANDS)}}} ...   (realuid train --help)", file=sys.stderr)
        return 0 if name in ("__help", "_h") else 2
    command = importlib.import_module(f"realuid.commands.{name}")
    return command.main(arguments[1:])
