"""`tools/sample.py`: images from a student, or from its teacher in many steps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_model, check_model, check_num
from realuid.utils.errors import RunError
from realuid.utils.places import check_file, check_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="sample.py", description=__doc__)
    add_model(parser)
    parser.add_argument("--num", type=int, default=64, help="number of images")
    parser.add_argument("--source", metavar="PATH", help="where x0 comes from: a folder of images, an image, or shards")
    parser.add_argument(
        "--prompts", nargs="+", metavar="TEXT", help="prompts, repeated as needed (default: conditions of the data)"
    )
    parser.add_argument(
        "--labels", type=_number, nargs="+", help="class labels, repeated as needed (default: all in turn)"
    )
    parser.add_argument(
        "--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding of a described teacher"
    )
    parser.add_argument("--out", required=True, help="FILE.png (a grid), FILE.npz (images and labels) or a folder")
    arguments = parser.parse_args(argv)

    def work() -> int:
        out = Path(arguments.out)
        if out.suffix and out.suffix not in (".png", ".npz"):
            raise RunError(f"--out {out}: FILE.png, FILE.npz or a folder is needed")
        (check_file if out.suffix else check_folder)(out, "--out")
        check_num(arguments.num, 1)
        check_model(arguments)
        from realuid.jobs import sample

        return sample.work(arguments)

    return guarded("sample.py", work)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number: labels are numbers from 0, in the order of the classes in the set's index.json"
        ) from None
