"""`tools/tiny_text.py FOLDER`: captioned pictures and a small text-to-image pipeline, for gin/tiny_text.gin.

FOLDER/pictures holds coloured shapes, in a folder for each colour and shape, with a caption beside each picture;
FOLDER/pipeline a FluxPipeline of diffusers whose autoencoder was trained on them, and whose other parts are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from realuid.commands.console import Parser, guarded
from realuid.utils.errors import RunError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(prog="tiny_text", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="a new folder")
    parser.add_argument("--pictures", type=int, default=1200, metavar="N", help="pictures (%(default)s)")
    parser.add_argument("--steps", type=int, default=600, metavar="N", help="of the autoencoder (%(default)s)")
    arguments = parser.parse_args(argv)

    def work() -> int:
        folder = Path(arguments.folder)
        if arguments.pictures < 1 or arguments.steps < 2:
            raise RunError("--pictures must be at least 1, and --steps at least 2")
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder} is not empty and is left alone: name another folder")
        from realuid.jobs import tiny_text

        return tiny_text.work(arguments)

    return guarded("tiny_text", work)
