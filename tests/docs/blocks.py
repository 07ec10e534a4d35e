"""The code blocks of the pages, and the marks before them.

A block is fenced and says its language: `bash`, `python` and `gin` are run, `text` is only shown. A mark is an HTML
comment on a line of its own, directly before the fence:

    <!-- not run: REASON -->   the block is only looked at (options of commands, names of files)
    <!-- file: NAME -->        the block is the content of this file, for the blocks after it
    <!-- with: FILE.gin -->    the gin block goes on from this file instead of gin/fm_digits.gin
    <!-- part of: FILE.gin --> the statements of the gin block stand in this file
    <!-- output -->            the text block is what the python block before it prints
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("bash", "python", "gin", "text", "bibtex")
MARKS = ("not run", "file", "with", "part of", "output")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    """Of its fence."""
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """What a reader meets: the README, the files beside it, and docs/."""
    beside = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*beside, *sorted((ROOT / "docs").glob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order.

    Raises:
        ValueError: for a block without a known language, a mark that means nothing, or an indented block.
    """
    found: list[Block] = []
    marks: dict[str, str] = {}
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    before = ""
    for number, line in lines:
        if (mark := re.fullmatch(r"<!-- ([a-z ]+?)(?:: (.+))? -->", line)) is not None:
            if mark[1] not in MARKS:
                raise ValueError(f"{page.name}:{number}: there is no mark {mark[1]!r}")
            marks[mark[1]] = mark[2] or ""
        elif line.startswith("```"):
            language = line.removeprefix("```").strip()
            if language not in LANGUAGES:
                raise ValueError(f"{page.name}:{number}: a block says its language, one of {', '.join(LANGUAGES)}")
            text = []
            for _, inside in lines:
                if inside == "```":
                    break
                text.append(inside)
            found.append(Block(name_of(page), number, language, "\n".join(text) + "\n", marks))
            marks = {}
        elif line.startswith("    ") and not before.strip():
            raise ValueError(f"{page.name}:{number}: blocks are fenced, not indented")
        elif marks and line.strip():
            raise ValueError(f"{page.name}:{number}: a mark stands directly before its block")
        before = line
    return found
