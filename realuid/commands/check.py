"""`tools/check.py`: proves a framework on Gaussians with exact networks; a table, and status 1 if a row fails."""

from __future__ import annotations

from collections.abc import Sequence

from realuid import config as configuration
from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_assembly
from realuid.config import ConfigError

MOST_DIMENSIONS = 10_000
"""A few gigabytes of pairs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 if every row holds, 1 if not, 2 if the gin file cannot be read."""
    parser = Parser(prog="check.py", description=__doc__)
    add_assembly(parser)
    parser.add_argument(
        "--dimensions", nargs="+", type=int, default=[1], metavar="D", help="of the data under a wrong teacher; 1"
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="also train a small network under the framework on the built-in digits, which takes minutes",
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        if min(arguments.dimensions) < 1:
            raise ConfigError(f"--dimensions must be at least 1, got {min(arguments.dimensions)}")
        if max(arguments.dimensions) > MOST_DIMENSIONS:
            raise ConfigError(f"--dimensions must be at most {MOST_DIMENSIONS:,}, got {max(arguments.dimensions)}")
        config = configuration.load(arguments.gin, arguments.bind)
        from realuid.jobs import check

        return check.work(config, arguments)

    return guarded("check.py", work)
