"""Captions: in the columns of a row, and among the members of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realuid.utils import budget

__all__ = ["CAPTION", "CAPTION_MEMBERS", "caption_in", "caption_of"]

CAPTION = ("text", "caption", "prompt", "description")
"""Columns that may hold a caption, the first one that there is before the others."""
CAPTION_MEMBERS = ("txt", "json")
"""Members that may hold one."""


def caption_in(columns: Mapping[str, Any]) -> str | None:
    """The first caption in a row that is not blank; "" if all of them are, None if there is no column of captions.

    Raises:
        ValueError: one is no text, or cannot be written in UTF-8; the message begins with "its".
    """
    there = [name for name in CAPTION if name in columns]
    for name in there:
        text = columns[name]
        if text is None:
            continue
        if not isinstance(text, str):
            raise ValueError(f"its {name} is no text but {text!r:.40}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"its {name} cannot be written in UTF-8: {text!a:.40}") from None
        if text.strip():
            return text
    return "" if there else None


def caption_of(members: Mapping[str, bytes]) -> str | None:
    """The caption among a sample's members: `txt`, or the text, caption, prompt or description in `json`.

    Raises:
        ValueError: `txt` is no text in UTF-8, or that in `json` is no text; the message begins with "its".
    """
    if "txt" in members:
        try:
            return members["txt"].decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ValueError("its txt is no text in UTF-8") from None
    if "json" in members:
        try:
            columns = budget.parsed(members["json"], "json")
        except ValueError:
            return None
        return (caption_in(columns) or "").strip() if isinstance(columns, dict) else None
    return None
