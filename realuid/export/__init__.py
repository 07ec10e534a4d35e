"""Students apart from their training: exported, and opened again."""

from realuid.export.folder import load
from realuid.export.reading import to_exported
from realuid.export.student import Evaluation, ExportedStudent, Step

__all__ = ["Evaluation", "ExportedStudent", "Step", "load", "to_exported"]
