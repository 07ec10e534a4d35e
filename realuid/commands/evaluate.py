"""`tools/evaluate.py`: values of a student, or of its teacher in many steps, as one JSON line; of every new checkpoint
of a run at work (--watch); or of several runs side by side (--compare)."""

from __future__ import annotations

from collections.abc import Sequence

from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_model, check_model, check_num
from realuid.utils.errors import RunError
from realuid.utils.limits import LONGEST_S
from realuid.utils.places import check_file, check_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="evaluate.py", description=__doc__)
    which = add_model(parser)
    which.add_argument("--compare", nargs="+", metavar="RUN", help="run folders, into one table at --out")
    parser.add_argument(
        "--num",
        type=int,
        default=50_000,
        help="generated images (the run's own values: Evaluator.count); a distance falls with their number",
    )
    parser.add_argument("--reference", metavar="FILE", help="npz of reference statistics instead of the run's data")
    parser.add_argument("--metrics", metavar="FILE", help="gin file that binds the Evaluator, as gin/metrics/*.gin")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument(
        "--features", metavar="DIR", help="keep the generated images' features here, and use them again"
    )
    parser.add_argument(
        "--write-reference", metavar="FILE", help="write the run's data as an npz of statistics, no more"
    )
    parser.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="evaluate every new checkpoint of a run; seconds between two looks",
    )
    parser.add_argument(
        "--out", default="comparison.html", metavar="FILE", help="of --compare: .html, or .md with pictures"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        check_num(arguments.num, 2)
        if arguments.watch is not None and not 0 < arguments.watch <= LONGEST_S:
            raise RunError(f"--watch must be positive and at most {LONGEST_S:,} seconds, got {arguments.watch}")
        if arguments.write_reference:
            check_file(arguments.write_reference, "--write-reference")
        if arguments.features:
            check_folder(arguments.features, "--features")
        check_model(arguments)
        from realuid.jobs import evaluate

        return evaluate.work(arguments)

    return guarded("evaluate.py", work)
