"""The plan that all U-Nets of EDM and EDM2 follow: which block stands where, under which name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Mode = Literal["keep", "up", "down"]


class Place(NamedTuple):
    """A block of the U-Net."""

    name: str
    """As in EDM's weights, height and width first: `32x32_down`, `16x16_block0`, ..."""
    ins: int
    outs: int
    mode: Mode
    attends: bool
    joins: bool = False
    """Whether the features of the way down are concatenated to its input."""


MOST_BLOCKS = 1000


def resolutions(shape: Sequence[int], depths: int, attention: Sequence[int]) -> list[str]:
    """Height and width of the images at every depth, as the names of blocks begin: `32x32`, or `32x64`.

    Raises:
        ValueError: if H and W of the shape (C, H, W) do not divide, or a depth in `attention` does not exist.
    """
    _, height, width = shape
    factor = 2 ** (depths - 1)
    if height % factor or width % factor:
        raise ValueError(f"H and W of shape {tuple(shape)} must be divisible by {factor}, one halving a multiplier")
    if not set(attention) <= set(range(depths)):
        raise ValueError(f"attention depths {list(attention)} must lie in 0..{depths - 1}")
    return [f"{height // 2**depth}x{width // 2**depth}" for depth in range(depths)]


def layout(
    *, names: Sequence[str], first: int, widths: Sequence[int], blocks: int, attention: Sequence[int]
) -> tuple[list[Place], list[Place]]:
    """The blocks on the way down, after the first convolution, and on the way up.

    Args:
        names: of the depths, see `resolutions`.
        first: channels after the first convolution.
        widths: channels at every depth.
        blocks: on the way down, a depth; there is one more on the way up.
        attention: depths whose blocks attend; the middle always does.

    Raises:
        ValueError: if there are more blocks than any network has.
    """
    if blocks > MOST_BLOCKS:
        raise ValueError(f"blocks must be at most {MOST_BLOCKS}, got {blocks}")
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
