"""Aspect buckets: the sizes that pictures of all shapes are cropped to, and which picture goes to which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from realuid.utils.errors import DataError

__all__ = ["LONGEST", "Size", "assigned", "nearest", "sizes"]

Size = tuple[int, int]
"""Height and width in pixels."""
LONGEST = 2
"""How many times the longer side of a bucket is the shorter one, at most."""


def sizes(resolution: Size, step: int) -> tuple[Size, ...]:
    """The buckets of about the area of a resolution: for every width that is a multiple of `step` the largest height
    that is one and keeps within the area, from 1:2 to 2:1, and each of them turned. In steps of 64 an area of 1024 x
    1024 gives 1024x1024, 1088x960, 1152x896, 1216x832, 1280x768, 1344x768 and 1408x704.

    Raises:
        DataError: the step leaves no bucket.
    """
    area = math.prod(resolution)
    found = set()
    for width in range(step, math.isqrt(LONGEST * area) + step, step):
        height = area // width // step * step
        if height and max(height, width) <= LONGEST * min(height, width):
            found |= {(height, width), (width, height)}
    if not found:
        raise DataError(f"--buckets {step}: {resolution[1]}x{resolution[0]} leaves no size with sides of that step")
    return tuple(sorted(found))


def nearest(picture: Size, buckets: Sequence[Size]) -> int:
    """The bucket that keeps the largest part of a picture which is scaled to cover it and cropped: that of the nearest
    ratio of the sides. Of equally near ones it is the bucket of the largest area, and of these the widest.

    Pictures that are longer than all buckets go to the longest, too, and lose more.
    """
    height, width = picture

    def rank(number: int) -> tuple[Fraction, int, int]:
        rows, columns = buckets[number]
        shapes = Fraction(width * rows, height * columns)
        return min(shapes, 1 / shapes), rows * columns, columns

    return max(range(len(buckets)), key=rank)


def assigned(pictures: NDArray[np.int64], buckets: Sequence[Size]) -> NDArray[np.int64]:
    """The bucket of each picture; of one without a size, which cannot be read, the bucket of the most others.

    Args:
        pictures: height and width of each, `[N, 2]`; zeros where they are not known.
        buckets: sizes.
    """
    kinds, homes = np.unique(pictures, axis=0, return_inverse=True)
    chosen = np.array([nearest((int(h), int(w)), buckets) if h and w else -1 for h, w in kinds], np.int64)
    found = chosen[homes.reshape(-1)]
    counts = np.bincount(found[found >= 0], minlength=len(buckets))
    found[found < 0] = int(counts.argmax())
    return found
