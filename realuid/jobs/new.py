"""A recipe for data and a teacher of one's own, with comments."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from realuid.data.builtin.sets import ensure
from realuid.data.shards.index import INDEX_FILE, ShardIndex
from realuid.data.shards.location import locate
from realuid.jobs.inspect_checkpoint import known_of, newest_of_run
from realuid.jobs.recipe import own_teacher, recipe, teacher_of_another_project
from realuid.pretrained.conventions import Foreign
from realuid.pretrained.guided import SizeUntold
from realuid.pretrained.loading import is_ours
from realuid.pretrained.reading import read
from realuid.utils.atomic import write_atomically


def work(arguments: argparse.Namespace, out: Path) -> int:
    """Writes the recipe to `out`; returns the exit status."""
    data = _as_bound(arguments.data)
    index = ShardIndex.read(ensure(data))
    url = newest_of_run(arguments.teacher)
    if arguments.format is None and is_ours(url):
        teacher = own_teacher(url)
    else:
        teacher = teacher_of_another_project(_read(url, arguments, index.form().shape), url)
    text = recipe(index, data, teacher)
    write_atomically(out, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"{out}: read it, then python tools/train.py --gin {shlex.quote(str(out))} --dry-run")
    return 0


def _as_bound(path: str) -> str:
    """The data as a recipe names them: a folder that was given from here keeps its name inside of REALUID_DATA."""
    here, inside = Path(path).absolute(), Path(locate("x")).parent.absolute()
    if "://" in path or not (here / INDEX_FILE).is_file():
        return path
    return here.relative_to(inside).as_posix() if here.is_relative_to(inside) else str(here)


def _read(url: str, arguments: argparse.Namespace, shape: tuple[int, ...] | None) -> Foreign:
    """Another project's checkpoint. A file that does not tell the size of its images is taken to be of the data's."""
    known = known_of(arguments.known)
    try:
        return read(url, arguments.format, known=known)
    except SizeUntold:
        if shape is None:
            raise
        return read(url, arguments.format, known={"shape": shape} | known)
