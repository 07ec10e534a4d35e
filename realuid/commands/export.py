"""`tools/export.py`: a run's student in forms that others can use."""

from __future__ import annotations

from collections.abc import Sequence

from realuid.commands.console import Parser, guarded
from realuid.commands.options import add_model, check_model
from realuid.utils.errors import RunError
from realuid.utils.places import check_folder

FORMATS = ("onnx", "torch", "diffusers", "lora")
"""The names in `realuid.export.export` and `realuid.jobs.export`, which take torch to import."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="export.py", description=__doc__)
    add_model(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--formats", nargs="+", default=[], choices=FORMATS, help="further formats")
    parser.add_argument("--name", help="title of the model card (default: name of the run)")
    parser.add_argument("--push", metavar="OWNER/NAME", help="also to this repository of the hub of Hugging Face")
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.teacher:
            raise RunError("only students are exported; a teacher's checkpoint is used as it is")
        check_folder(arguments.out, "--out")
        check_model(arguments)
        from realuid.jobs import export

        return export.work(arguments)

    return guarded("export.py", work)
