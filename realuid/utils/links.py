"""What does not belong into a folder that may come from anywhere: links out of it, pipes and devices."""

from __future__ import annotations

import os
from pathlib import Path

LOGGERS = frozenset({"wandb"})
"""Folders in which a logger's own package keeps links to its files elsewhere. Nothing of this project opens them."""


def stray(folder: Path) -> str | None:
    """The first thing below `folder` that is no file, folder, or symbolic link to one within it, as a message says it;
    None if there is none. The folder itself may be reached by links. Inside of `LOGGERS` nothing is looked at."""
    root, waiting = folder.resolve(), [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    if not _stays(Path(entry.path), root):
                        return f"{entry.path} is a symbolic link out of the folder, to {os.readlink(entry.path)}"
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name in LOGGERS and Path(entry.path).parent == folder:
                        continue
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    return f"{entry.path} is a pipe or a device"
    return None


def _stays(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # in a circle
        return False
