"""The command line: `realuid train ...` is `python tools/train.py ...`, and so on."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from realuid import __version__

NAMES = (
    "train",
    "sample",
    "evaluate",
    "study",
    "check",
    "teacher_error",
    "make_shards",
    "tiny_text",
    "benchmark",
    "export",
    "new",
)
COMMANDS = {name: name for name in NAMES} | {"list": "list_components", "inspect": "inspect_checkpoint"}
"""Modules of this package by what is written on the command line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0].replace("-", "_") if arguments else ""
    if name == "__version":
        print(f"realuid {__version__}")
        return 0
    if name in ("", "__help", "_h"):
        print(f"usage: realuid {{{','.join(COMMANDS)}}} ...   (realuid train --help)", file=sys.stderr)
        return 0 if name else 2
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {close[0]!r}? The" if close else "the"
        print(
            f"realuid: there is no command {arguments[0]!r}; {meant} commands are {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    command = importlib.import_module(f"realuid.commands.{COMMANDS[name]}")
    return command.main(arguments[1:])
