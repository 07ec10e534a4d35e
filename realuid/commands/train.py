"""`tools/train.py`: trains whatever the gin files assemble, a missing teacher first."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from realuid import config as configuration
from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_assembly


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status (0 done, 2 the user's mistake, 3 a fault, 130/143 interrupted)."""
    parser = Parser(prog="train.py", description=__doc__)
    add_assembly(parser)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/<name of the first gin file>)")
    parser.add_argument("--fresh", action="store_true", help="move an existing run folder aside and start anew")
    parser.add_argument("--dry-run", action="store_true", help="assemble, print parts and costs, train nothing")
    command = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(command)

    def work() -> int:
        config = configuration.load(arguments.gin, arguments.bind)
        from realuid.jobs import train

        return train.work(config, arguments, command)

    return guarded("train.py", work)
