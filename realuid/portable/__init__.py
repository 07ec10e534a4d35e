"""Students apart from their training: exported, and opened again."""

from realuid.portable.folder import load
from realuid.portable.student import Step, Student, portable

__all__ = ["Step", "Student", "load", "portable"]
