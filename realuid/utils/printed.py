"""Text of files that came from elsewhere, on its way to a terminal."""

from __future__ import annotations

__all__ = ["plain"]


def plain(text: str) -> str:
    """The text in one line. What would end it, or move the cursor of a terminal, is written as Python writes it: a name
    in an archive may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
