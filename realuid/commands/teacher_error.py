"""`tools/teacher_error.py --run RUN`: how wrong the teacher of a run is, measured on real data without any training.

It also says how much of that `Reflected` should take away. Two models of the data cost nothing and bound the error from
below: an affine correction of the teacher, fitted to one half of the samples and judged by the other; under guidance,
the teacher's own network without it. The same correction of the teacher on samples of the student says how far that is
from its teacher. In a run without real data, such as UID, this is the student's own noise, and both together give the
correction r (docs/real_data.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_model, check_model
from realuid.utils.errors import RunError

LEAST = 1024
"""Samples below which a fit of eight parts of the time says nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="teacher_error.py", description=__doc__)
    add_model(parser)
    parser.add_argument("--num", type=int, default=8192, help="samples, each at one time (default: 8192)")
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.num < LEAST:
            raise RunError(f"--num must be at least {LEAST}, got {arguments.num}")
        check_model(arguments)
        from realuid.jobs import teacher_error

        return teacher_error.work(arguments)

    return guarded("teacher_error.py", work)
