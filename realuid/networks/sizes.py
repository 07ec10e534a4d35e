"""Sizes that every network asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from realuid.utils.limits import check_at_most

MOST = {"blocks": 1000, "depth": 1000}
"""Most layers that anybody could mean; whether a machine holds them is seen when they are built."""
MOST_LISTED = 32
MOST_VALUES = 1 << 26
"""Most values of one sample, as of a picture of 4,700 x 4,700 pixels in RGB."""


def check_sizes(sizes: Mapping[str, int | Sequence[int]]) -> None:
    """Makes sure that there is at least one of everything, that nothing listed is less than one, and that layers
    and values of a sample are no more than can be built.

    Args:
        sizes: numbers and lists of numbers, by the arguments that state them.

    Raises:
        ValueError: naming the argument.
    """
    for name, size in sizes.items():
        if not isinstance(size, int):
            if not size or min(size) < 1:
                raise ValueError(f"{name} must be one or more numbers, each at least 1, got {tuple(size)}")
            check_at_most(MOST_LISTED, **{f"the number of {name}": len(size)})
            if name == "shape" and math.prod(size) > MOST_VALUES:
                raise ValueError(f"shape must be of at most {MOST_VALUES:,} values, got {tuple(size)}")
        elif size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
        elif name in MOST:
            check_at_most(MOST[name], **{name: size})
