"""The mistakes that end a run with one line instead of a traceback."""

__all__ = ["CheckpointError", "DataError", "RunError"]


class DataError(Exception):
    """The data or its place is wrong; one line."""


class CheckpointError(Exception):
    """A checkpoint is missing, damaged or does not fit; one line."""


class RunError(Exception):
    """A run folder cannot be used as asked; one line."""
