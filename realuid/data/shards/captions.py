"""Captions: in the columns of a row, and among the members of a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from realuid.utils import budget

__all__ = ["CAPTION", "CAPTION_MEMBERS", "as_members", "caption_in", "caption_of"]

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


def as_members(columns: Mapping[str, Any]) -> dict[str, bytes]:
    """The members that hold a row of a table: its caption as text, and everything as JSON if there is more.

    Raises:
        ValueError: as `caption_in`, or a text of it cannot be written in UTF-8; the message begins with "its".
    """
    caption = caption_in(columns)
    members = {"txt": caption.encode()} if caption else {}
    if len(columns) > len(members):
        try:
            members["json"] = json.dumps(columns, ensure_ascii=False, sort_keys=True).encode()
        except UnicodeEncodeError:
            raise ValueError("its row in the table cannot be written in UTF-8") from None
    return members


def caption_of(members: Mapping[str, bytes]) -> str | None:
    """The caption among a sample's members: `txt`, or the text, caption, prompt or description in `json`.

    Raises:
        ValueError: `txt` is no text in UTF-8, `json` is no JSON, or what it has for a caption is no text; the message
            begins with "its".
    """
    if "txt" in members:
        try:
            return members["txt"].decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ValueError("its txt is no text in UTF-8") from None
    if "json" in members:
        columns = budget.parsed(members["json"], "its json")
        return (caption_in(columns) or "").strip() if isinstance(columns, dict) else None
    return None
