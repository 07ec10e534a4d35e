"""Checkpoints of other projects, read safely onto our networks."""

from realuid.foreign.conventions import Convention, Foreign
from realuid.foreign.reading import FORMATS, read

__all__ = ["FORMATS", "Convention", "Foreign", "read"]
