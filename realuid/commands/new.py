"""`realuid new`: a recipe for data and a teacher of one's own, with comments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_foreign
from realuid.utils.errors import RunError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="new", description=__doc__)
    parser.add_argument("--data", required=True, metavar="PATH", help="shards, as make_shards.py wrote them")
    parser.add_argument("--teacher", required=True, metavar="FILE", help="path or URL of the teacher's checkpoint")
    add_foreign(parser)
    parser.add_argument("--out", metavar="FILE", help="the gin file (default: the data's name, in this folder)")
    arguments = parser.parse_args(argv)

    def work() -> int:
        out = Path(arguments.out or f"{Path(arguments.data.rstrip('/')).name}.gin")
        if out.exists():
            raise RunError(f"{out} exists and is left alone: name another file with --out")
        from realuid.jobs import new

        return new.work(arguments, out)

    return guarded("new", work)
