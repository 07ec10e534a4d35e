"""`tools/study.py`: runs a table of gin files, bindings and seeds, and writes tables and curves of the results.

Every run's summary.json is kept under --docs, and with it what was run; a run that is there is not run again, one that
was interrupted is resumed. Tables are written after every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from realuid.commands.console import Parser, guarded
from realuid.reports.study import Plan
from realuid.utils.errors import RunError
from realuid.utils.places import check_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 1 if a run failed."""
    parser = Parser(prog="study.py", description=__doc__)
    parser.add_argument("table", type=Path, metavar="FILE.toml", help="the table, see realuid/reports/study.py")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where the run folders go")
    parser.add_argument("--docs", type=Path, default=Path("docs/study"), metavar="DIR", help="folder of the results")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (bind Trainer.threads to match)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="run these rows alone")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="run these seeds alone")
    parser.add_argument("--tables", action="store_true", help="run nothing, write tables and curves")
    parser.add_argument(
        "--fill",
        type=Path,
        metavar="PAGE.md",
        help="run nothing, renew the page's tables of this study (docs/study.md)",
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.jobs < 1:
            raise RunError(f"--jobs must be at least 1, got {arguments.jobs}")
        plan = Plan.read(arguments.table)
        names = [row.name for row in plan.rows]
        if unknown := [name for name in arguments.only or () if name not in names]:
            raise RunError(f"--only {unknown[0]}: the rows are {', '.join(names)}")
        for option, place in (("--out", arguments.out), ("--docs", arguments.docs)):
            check_folder(place, option)
        from realuid.jobs import study

        return study.work(arguments, plan)

    return guarded("study.py", work)
