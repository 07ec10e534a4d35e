"""RealUID: universal inverse distillation of matching models into one-step generators (arXiv 2509.22459)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realuid.portable import Student

__version__ = "0.1.0"


def load(path: str, device: str = "cpu") -> Student:
    """An exported student: `realuid.load(PATH).sample(16)`.

    Args:
        path: path or fsspec URL of a folder that tools/export.py wrote.
        device: where to.

    Raises:
        CheckpointError: one line, if there is no exported student, or it is damaged.
    """
    from realuid.portable import load as load_folder  # torch is imported when it is needed

    return load_folder(path, device)
