"""`realuid list`: every component that a gin file can bind, with arguments, defaults and what it is."""

from __future__ import annotations

from collections.abc import Sequence

from realuid.commands.console import Parser, guarded
from realuid.config.catalogue import listing


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="list", description=__doc__)
    parser.add_argument("what", nargs="?", metavar="KIND", help="a kind or a component (default: all kinds)")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print(listing(arguments.what))
        return 0

    return guarded("list", work)
