"""Numbers in configurations that no machine could do anything with."""

from __future__ import annotations

__all__ = ["LONGEST_S", "check_at_most"]

LONGEST_S = 10**8
"""Seconds, three years: more than any wait; clocks of the system overflow where it would be endless."""


def check_at_most(most: int, **numbers: float | None) -> None:
    """Makes sure that a slip of the pen is told at once, and not by a machine without memory or at the end of time.

    Args:
        most: the largest number that anybody could mean.
        numbers: by the arguments that state them.

    Raises:
        ValueError: naming the first that is larger.
    """
    for name, number in numbers.items():
        if number is not None and number > most:
            raise ValueError(f"{name} must be at most {most:,}, got {number}")
