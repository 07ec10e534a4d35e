"""The TOML file of a study: its entries, and what they are expected to be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from realuid.utils.errors import RunError
from realuid.utils.remote import first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["check_known", "table_in"]


def table_in(path: Path) -> dict[str, Any]:
    """What a file says, of known names alone. Raises RunError, one line, for what is missing or not understood."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RunError(f"there is no table {path}") from None
    except UnicodeDecodeError:
        raise RunError(f"{path} is no text in UTF-8") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RunError(f"{path}: {first_line(error)}") from None
    if "figures" in given:  # of version 0.1
        given["metrics"] = given.pop("figures")
    check_known(path, "the table", given, ("gin", "bind", "seeds", "baseline", "metrics", "curves", "row"))
    return given


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _seeds(value: Any) -> bool:
    """Whole numbers, each once."""
    whole = isinstance(value, list) and all(type(one) is int and 0 <= one < 2**63 for one in value)
    return whole and 0 < len(set(value)) == len(value)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("gin", "bind", "curves"), (_texts, 'texts in a list, ["..."]')),
    "metrics": (lambda value: _texts(value) and bool(value), 'names in a list, ["student_frechet"]'),
    "seeds": (_seeds, "whole numbers from 0 in a list, [0, 1], each once"),
    "baseline": (lambda value: isinstance(value, str) or _texts(value), "a name, or names in a list"),
    **dict.fromkeys(("name", "after"), (lambda value: isinstance(value, str), "a name")),
    "row": (
        lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
        "written as [[row]]",
    ),
}
"""What is expected of each entry of a table, as a test and in words."""


def check_known(path: Path, where: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises RunError, one line, for an entry of another name, or of another kind than its name says."""
    for key, value in given.items():
        if key not in names:
            raise RunError(f"{path}: {where} has no {key!r}; it has {', '.join(names)}")
        fits, kind = KINDS[key]
        if not fits(value):
            raise RunError(f"{path}: {key} of {where} is to be {kind}, not {value!r:.60}")
