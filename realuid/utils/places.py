"""Where a command is to write: whether it can is told at once, before any work. Nothing is left there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from realuid.utils.errors import RunError
from realuid.utils.remote import reason

__all__ = ["check_file", "check_folder"]


def check_folder(path: str | Path, option: str) -> None:
    """Makes sure that files can be written into a folder, which need not be there yet.

    Args:
        path: of the folder.
        option: how the user named it, for messages.

    Raises:
        RunError: if it is a file, lies in one, or cannot be written to.
    """
    place = Path(path)
    if place.exists() and not place.is_dir():
        raise RunError(f"{option} {place} is a file: name a folder, or one that is not there yet")
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise RunError(f"{option} {place} cannot be made: {there} is a file")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise RunError(f"{option} {place} cannot be written: {there}: {reason(error)}") from None


def check_file(path: str | Path, option: str) -> None:
    """Makes sure that a file can be written; one that is there will be replaced.

    Args:
        path: of the file.
        option: how the user named it, for messages.

    Raises:
        RunError: if it is a folder, or its own folder cannot be made or written to.
    """
    place = Path(path)
    if place.is_dir():
        raise RunError(f"{option} {place} is a folder: name a file in it")
    check_folder(place.absolute().parent, f"{option} {place}: the folder")
