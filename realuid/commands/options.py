"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from realuid.config.files import find_all
from realuid.jobs.mistakes import no_run
from realuid.utils.errors import RunError

PROJECTS = ("edm", "guided-diffusion", "i2sb", "torchcfm", "realuid-authors", "dit", "sit", "diffusers")
"""Whose checkpoints are read: `realuid.pretrained.FORMATS`, which takes torch to import."""
MOST_IMAGES = 10_000_000
"""More than anybody evaluates, or looks at."""


def add_assembly(parser: argparse.ArgumentParser) -> None:
    """The gin files and bindings of a run."""
    parser.add_argument("--gin", action="append", required=True, metavar="FILE", help="gin file; later ones win")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")


def add_model(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """The options that say which model is meant; returns the group of which one must be given."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="DIR", help="a run folder")
    which.add_argument(
        "--gin",
        metavar="FILE",
        help="a gin file: the run folder that train.py gives it, or the teacher that it describes",
    )
    which.add_argument("--model", metavar="FILE", help="a checkpoint file, which carries its own config")
    parser.add_argument(
        "--checkpoint", type=_step, metavar="N", help="step of the checkpoint, or `best` (default: the newest)"
    )
    parser.add_argument("--ema", metavar="NAME", help="which average, for instance 0.999 (default: the first)")
    parser.add_argument("--teacher", action="store_true", help="the teacher in many steps instead of the student")
    parser.add_argument("--steps", type=int, help="number of the teacher's steps (default: as bound)")
    parser.add_argument(
        "--allow-import",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="code from outside this package that the checkpoint's configuration may use: a module that it imports, or "
        "package.module:Name; what the file of --gin names is allowed without it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws; image i depends on (seed, i) alone")
    return which


def _step(text: str) -> int | str:
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither the number of a step nor best")
    return text if text == "best" else int(text)


def add_foreign(parser: argparse.ArgumentParser) -> None:
    """The options that say of another project's checkpoint what its content does not tell."""
    parser.add_argument("--format", choices=PROJECTS, help="whose file it is, where its content does not tell")
    parser.add_argument(
        "--known",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the file does not tell, e.g. shape=3,64,64",
    )


def check_model(arguments: argparse.Namespace) -> None:
    """Makes sure that the run folder or the gin file of `add_model` is there, before anything slow is imported.

    Raises:
        RunError: if there is no such run folder.
        ConfigError: if there is neither such a gin file nor a run folder of its name.
    """
    if arguments.run and not Path(arguments.run).exists():
        raise no_run(arguments.run)
    if arguments.gin and not (Path("runs") / Path(arguments.gin).stem).is_dir():  # the run may outlive its file
        find_all([arguments.gin])


def check_num(number: int, least: int) -> None:
    """Raises RunError unless --num is a number of images that can be made."""
    if not least <= number <= MOST_IMAGES:
        raise RunError(f"--num must be at least {least} and at most {MOST_IMAGES:,}, got {number}")
