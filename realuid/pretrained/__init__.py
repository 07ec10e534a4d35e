"""Checkpoints of other projects, read safely onto our networks."""

from realuid.pretrained.conventions import Convention, Foreign
from realuid.pretrained.reading import FORMATS, read

__all__ = ["FORMATS", "Convention", "Foreign", "read"]
