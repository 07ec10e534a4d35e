"""Captions as a field of a condition, for what encodes them while a model is trained."""

from __future__ import annotations

from torch import Tensor

from realuid.conditions.fields import Field
from realuid.utils.limits import check_at_most

__all__ = ["Caption"]

CAPTION = "caption"
"""Name of the field."""


class Caption(Field):
    """The field `caption` [length] uint8: the caption of a sample (`KEY.txt`, or a text in `KEY.json`) in UTF-8, and
    zeros behind it. `Encoded` makes embeddings of it.

    Args:
        length: bytes; a longer caption is refused.

    Raises:
        ValueError: if `length` is not positive, or beyond reason.
    """

    def __init__(self, *, length: int = 2048) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        check_at_most(1_000_000, length=length)
        super().__init__(CAPTION, (length,), "uint8")


def texts(captions: Tensor) -> list[str]:
    """The captions in a field `[B, length]`."""
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in captions.cpu().numpy()]
