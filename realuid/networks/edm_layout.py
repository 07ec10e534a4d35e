"""The plan that all U-Nets of EDM and EDM2 follow: which block stands where, under which name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Mode = Literal["keep", "up", "down"]


class Place(NamedTuple):
    """A block of the U-Net."""

    name: str
    """As in EDM's weights: `32x32_down`, `16x16_block0`, ..."""
    ins: int
    outs: int
    mode: Mode
    attends: bool
    joins: bool = False
    """Whether the features of the way down are concatenated to its input."""


def sizes(shape: Sequence[int], depths: int, attention: Sequence[int]) -> list[int]:
    """Height of the square images at every depth.

    Raises:
        ValueError: if the shape (C, H, W) does not suit, or a depth in `attention` does not exist.
    """
    side, factor = shape[1], 2 ** (depths - 1)
    if shape[2] != side or side % factor:
        raise ValueError(f"shape {tuple(shape)} must be (C, H, H), H divisible by {factor}: one halving a multiplier")
    if not set(attention) <= set(range(depths)):
        raise ValueError(f"attention depths {list(attention)} must lie in 0..{depths - 1}")
    return [side // 2**depth for depth in range(depths)]


def layout(
    *, sizes: Sequence[int], first: int, widths: Sequence[int], blocks: int, attention: Sequence[int]
) -> tuple[list[Place], list[Place]]:
    """The blocks on the way down, after the first convolution, and on the way up.

    Args:
        sizes: height of the images at every depth.
        first: channels after the first convolution.
        widths: channels at every depth.
        blocks: on the way down, a depth; there is one more on the way up.
        attention: depths whose blocks attend; the middle always does.
    """
    names = [f"{size}x{size}" for size in sizes]
    current, skips, down, up = first, [first], [], []
    for depth, width in enumerate(widths):
        if depth:
            down.append(Place(f"{names[depth]}_down", current, current, "down", False))
            skips.append(current)
        for index in range(blocks):
            down.append(Place(f"{names[depth]}_block{index}", current, width, "keep", depth in attention))
            current = width
            skips.append(current)
    up.append(Place(f"{names[-1]}_in0", current, current, "keep", True))
    up.append(Place(f"{names[-1]}_in1", current, current, "keep", False))
    for depth, width in reversed(list(enumerate(widths))):
        if depth < len(widths) - 1:
            up.append(Place(f"{names[depth]}_up", current, current, "up", False))
        for index in range(blocks + 1):
            ins = current + skips.pop()
            up.append(Place(f"{names[depth]}_block{index}", ins, width, "keep", depth in attention, joins=True))
            current = width
    return down, up
