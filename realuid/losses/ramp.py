"""A number that changes over the run."""

from __future__ import annotations

__all__ = ["Ramp"]


class Ramp:
    """A number that rises from 0 to 1 over a part of the run, on a straight line.

    Args:
        start: images of the generator's training up to which it is 0.
        end: images from which on it is 1.

    Raises:
        ValueError: if not 0 <= start < end.
    """

    def __init__(self, *, start: int = 0, end: int) -> None:
        if not 0 <= start < end:
            raise ValueError(f"0 <= start < end is needed, got start = {start}, end = {end}")
        self.start, self.end = start, end

    def __call__(self, images: int) -> float:
        return min(max((images - self.start) / (self.end - self.start), 0.0), 1.0)
