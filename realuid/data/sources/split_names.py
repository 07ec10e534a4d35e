"""Names of folders and files that are parts of a set, and no classes."""

from __future__ import annotations

import re

__all__ = ["is_split", "split_of"]

WORDS = "train|training|val|valid|validation|test|testing|eval|evaluation|dev|holdout"
FOLDER = re.compile(rf"({WORDS})([ _.-]?(set|images|imgs|data|split)|[ _.-]?\d+)?", re.IGNORECASE)
FILE = re.compile(rf"({WORDS})(?![a-z])", re.IGNORECASE)


def is_split(folder: str) -> bool:
    """Whether a folder is called as a part of a set is: `train`, `Test`, `val2017`, `training_set`."""
    return FOLDER.fullmatch(folder) is not None


def split_of(stem: str) -> str | None:
    """The split that a file's name begins with: `train` of `train-00000-of-00002` and of `train_1`."""
    found = FILE.match(stem)
    return found[1] if found else None
