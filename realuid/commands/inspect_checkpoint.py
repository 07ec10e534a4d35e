"""`realuid inspect FILE`: the gin that describes a checkpoint, of this project or of another."""

from __future__ import annotations

from collections.abc import Sequence

from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_foreign


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="inspect", description=__doc__)
    parser.add_argument(
        "file", metavar="FILE", help="path or URL of a checkpoint, a run folder (its newest), or a diffusers folder"
    )
    add_foreign(parser)
    parser.add_argument("--ema", metavar="NAME", help="which set of weights, where the file has several")
    arguments = parser.parse_args(argv)

    def work() -> int:
        from realuid.jobs import inspect_checkpoint

        return inspect_checkpoint.work(arguments)

    return guarded("inspect", work)
