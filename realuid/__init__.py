"""RealUID: universal inverse distillation of matching models into one-step generators (arXiv 2509.22459)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realuid.utils.remote import limit_silence

if TYPE_CHECKING:
    from realuid.export import ExportedStudent

__version__ = "0.2.0"

limit_silence()


def load(path: str, device: str = "cpu") -> ExportedStudent:
    """An exported student: `realuid.load(PATH).sample(16)`.

    Args:
        path: path or fsspec URL of a folder that tools/export.py wrote.
        device: where to.

    Raises:
        CheckpointError: one line, if there is no exported student, or it is damaged.
    """
    from realuid.export import load as load_folder  # torch is imported when it is needed

    return load_folder(path, device)
