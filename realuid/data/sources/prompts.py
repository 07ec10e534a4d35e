"""Prompts without images: lines of a text, rows of a table, texts in a folder."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from realuid.data.shards.captions import CAPTION, caption_in
from realuid.data.sources.base import Raw, Source
from realuid.data.sources.parquet import captions
from realuid.data.sources.tables import lines_of, records_of
from realuid.data.sources.trees import Tree
from realuid.utils.errors import DataError
from realuid.utils.remote import first_line

__all__ = ["Texts", "in_folder", "prompts_in"]

KINDS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
"""Endings of files that may hold prompts."""


class Texts(Source):
    """Prompts without images.

    Args:
        place: what complaints call them.
        rows: the texts, with what each is called. Blank ones are left out, and counted in a note.
        tree: whose files they are, if there is one.

    Raises:
        DataError: there are none.
    """

    has_images = False

    def __init__(self, place: str, rows: Sequence[tuple[str, str]], tree: Tree | None = None) -> None:
        self.place, self.tree = place, tree
        self.prompts = [(name, text.strip()) for name, text in rows if text.strip()]
        if not self.prompts:
            raise DataError(f"{place} holds no prompts")
        blank = len(rows) - len(self.prompts)
        left_out = f", {blank} without a text are left out" if blank else ""
        self.notes = (f"{place}: {len(self.prompts)} prompts without images{left_out}",)

    def __len__(self) -> int:
        return len(self.prompts)

    def read(self, number: int) -> Raw:
        name, text = self.prompts[number]
        return Raw(f"{self.place}{name}", None, 0, extras={"txt": text.encode()})

    def would_take(self, place: Path) -> str | None:
        return None if self.tree is None else self.tree.holds(place)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.prompts).encode()).hexdigest()


def prompts_in(path: Path) -> dict[str, Source] | None:
    """The prompts in a file: the lines of a `.txt`; the column text, caption, prompt or description of a `.jsonl`,
    `.csv`, `.tsv` or `.parquet`. None for other files, and for tables that hold images as well.

    Raises:
        DataError: it cannot be read, or has no such column.
    """
    kind = path.suffix.lower()
    if kind not in KINDS or not path.is_file():
        return None
    place = str(path)
    if kind == ".parquet":
        told = captions(path)
        return None if told is None else {"train": Texts(place, [(f", row {n}", text) for n, text in enumerate(told)])}
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{place} cannot be read: {first_line(error)}") from None
    lines = _lines(place, kind, content)
    return {"train": Texts(place, [(f", line {number}", text) for number, text in lines])}


def in_folder(tree: Tree) -> Texts | None:
    """The prompts in the `.txt` files of a folder or zip, one a file; None if it holds anything else."""
    names = sorted(tree.sizes)
    if not names or not all(name.lower().endswith(".txt") for name in names):
        return None
    try:
        texts = [(f"/{name}", tree.read(name).decode("utf-8-sig")) for name in names]
    except (OSError, ValueError) as error:
        raise DataError(f"{tree.path} cannot be read: {first_line(error)}") from None
    return Texts(tree.path, texts, tree)


def _lines(place: str, kind: str, content: str) -> list[tuple[int, str]]:
    """The prompts of a text by the numbers of their lines."""
    if kind == ".txt":
        return lines_of(content)
    try:
        rows = records_of(kind, content)
    except (ValueError, csv.Error) as error:
        raise DataError(f"{place} cannot be read: {first_line(error)}") from None
    found = []
    for number, row in rows:
        try:
            text = caption_in(row) if isinstance(row, dict) else None
        except ValueError as error:
            raise DataError(f"{place}, line {number}: {error}") from None
        if text is None:
            raise DataError(f"{place}: line {number} has no {', '.join(CAPTION)}")
        found.append((number, text))
    return found
