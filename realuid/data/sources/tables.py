"""Tables that say something of files: labels and captions, as JSON, JSON lines or CSV."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from realuid.data.shards.captions import CAPTION
from realuid.data.sources.base import check_distinct, numbered
from realuid.utils import budget
from realuid.utils.errors import DataError

__all__ = ["Row", "has_label", "labelled_by", "labels_in", "lines_of", "records_of", "rows_of"]

FILE = ("file_name", "filename", "file", "path", "file_path", "filepath", "image_path", "image", "image_name", "name",
        "image_id", "id")  # fmt: skip
"""Columns that may name a file, the likeliest first: one that is called `id` may be a number of the row."""
LABEL = ("label", "labels", "class", "class_name", "category", "target", "y")
Row = tuple[str, dict[str, Any]]
"""The name of a file, and its columns."""
WAYS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("name", lambda name: name),
    ("name without its folder", lambda name: PurePosixPath(name).name),
    ("name without its ending", lambda name: str(PurePosixPath(name).with_suffix(""))),
    ("name without folder and ending", lambda name: PurePosixPath(name).stem),
)
"""How the names in a table may be those of files, the nearest first."""


def rows_of(name: str, content: bytes, place: str) -> list[Row]:
    """The rows of a table, called `place` in complaints and of the kind that the ending of `name` says.

    JSON is `{file: label}`, or `{"labels": [[file, label], ...]}` as EDM and StyleGAN write it; JSON lines are objects
    with a `file_name`, as in folders of Hugging Face; everything else is CSV, with or without a line of names.

    Raises:
        DataError: it is none; one line.
    """
    try:
        text = content.decode("utf-8-sig")
        if "\n" not in text:  # old spreadsheets end lines in carriage returns alone
            text = text.replace("\r", "\n")
        if name.lower().endswith(".json"):
            return _json_rows(text)
        if name.lower().endswith(".jsonl"):
            return [_row(record, number) for number, record in records_of(name, text)]
        return _csv_rows(name, text)
    except UnicodeDecodeError:
        raise DataError(f"{place} cannot be read: it is no text in UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{place} cannot be read: {error}") from None


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, by their numbers. Only a line feed ends one: JSON and prompts may hold others of
    the characters that `str.splitlines` splits at."""
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def records_of(name: str, text: str) -> list[tuple[int, Any]]:
    """The rows of a table by the numbers of their lines: the values of JSON lines, if `name` ends so, or else the
    columns of a CSV by the names in its first line.

    Raises:
        ValueError: a line is no JSON, or has other columns than the first.
        csv.Error: it is no CSV.
    """
    if name.lower().endswith(".jsonl"):
        return [(number, budget.parsed(line, f"line {number}", _once)) for number, line in lines_of(text)]
    return _named(_cells(name, text))


def _json_rows(text: str) -> list[Row]:
    record = budget.parsed(text, "it", _once)
    if isinstance(record, dict) and "labels" in record:
        record = record["labels"] or []
    if isinstance(record, dict):
        record = list(record.items())
    if not isinstance(record, list) or any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in record):
        raise ValueError('it is neither {file: label} nor {"labels": [[file, label], ...]}')
    return [(_file(file), {"label": label}) for file, label in record]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which the last of equal names would win."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(f"{name!r} stands in it twice, with {found[name]!r} and {value!r}")
        found[name] = value
    return found


def _cells(name: str, text: str) -> list[tuple[int, list[str]]]:
    """The lines of a CSV that are not empty, by their numbers."""
    delimiter = "\t" if name.lower().endswith(".tsv") else max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)  # or an open quote takes all the rest
    return [(reader.line_num, line) for line in reader if line]


def _named(lines: list[tuple[int, list[str]]]) -> list[tuple[int, dict[str, str]]]:
    """The lines of a CSV as columns, by the names in its first line."""
    if not lines:
        return []
    names = [cell.strip().lower() for cell in lines[0][1]]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise ValueError(f"its first line names {twice!r} twice")
    for number, line in lines[1:]:
        if len(line) != len(names):
            raise ValueError(f"line {number} has {len(line)} columns, the first one {len(names)}")
    return [(number, dict(zip(names, line, strict=True))) for number, line in lines[1:]]


def _csv_rows(name: str, text: str) -> list[Row]:
    lines = [(number, line) for number, line in _cells(name, text) if any(cell.strip() for cell in line)]
    if not lines or len(lines[0][1]) < 2:
        raise ValueError("it has no two columns (name,label)")
    names = [cell.strip().lower() for cell in lines[0][1]]
    if any(name in FILE for name in names) and any(name in LABEL + CAPTION for name in names):
        return [_row(columns, number) for number, columns in _named(lines)]
    if len(names) != 2:
        raise ValueError(
            f"its first line names no columns, and there are {len(names)}: expected name,label, or names such as "
            f"{FILE[0]} and {LABEL[0]}"
        )
    for number, line in lines:
        if len(line) != 2:
            raise ValueError(f"line {number} has {len(line)} columns instead of name,label")
    return [(_file(file), {"label": label}) for _, (file, label) in lines]


def _row(record: Any, number: int) -> Row:
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is no object")
    column = next((name for name in FILE if name in record), None)
    if column is None:
        raise ValueError(f"line {number} names no file ({', '.join(FILE)})")
    return _file(record[column]), {name: value for name, value in record.items() if name != column}


def _file(name: Any) -> str:
    """A name as files of folders and zips have theirs."""
    return str(name).strip().replace("\\", "/").removeprefix("./")


def labels_in(rows: Sequence[Row]) -> list[Row]:
    """The rows as file and `label` alone; empty if the table has no labels."""
    found = []
    for file, columns in rows:
        column = next((name for name in LABEL if name in columns), None)
        if column is not None:
            found.append((file, {"label": columns[column]}))
    return found


def has_label(text: bytes) -> bool:
    """Whether a JSON text is an object with a label. Raises ValueError if it is no JSON."""
    columns = budget.parsed(text, "it")
    return isinstance(columns, dict) and bool(labels_in([("", columns)]))


def labelled_by(
    rows: Sequence[Row], names: Sequence[str], place: str
) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """The classes, and the label of each file, that a table called `place` gives; and a note of what it says beyond.

    Labels are whole numbers from 0, or words, which are numbered in alphabetical order.

    Raises:
        DataError: a file has no label, or two, or one that is none.
    """
    given: dict[str, int | str] = {}
    for file, columns in rows:
        label = _label(columns["label"], f"{place}: the label of {file}")
        if file in given and given[file] != label:
            raise DataError(f"{place} gives {file} two labels, {given[file]} and {label}")
        given[file] = label
    found = _matched(given, names, place)
    beyond = len(given) - len(set(found))
    values = [given[file] for file in found]
    words = sorted({value for value in values if isinstance(value, str)})
    notes: tuple[str, ...] = (f"{place} has labels of {beyond} files that are not there",) if beyond else ()
    if not words:
        numbers = [value for value in values if isinstance(value, int)]
        classes = numbered(max(numbers) + 1, place)
        if empty := set(range(len(classes))) - set(numbers):
            notes += (f"{place}: {len(empty)} of {len(classes)} classes have no image, the first of them {min(empty)}",)
        return classes, numbers, notes
    if odd := next((file for file in found if isinstance(given[file], int)), None):
        raise DataError(f"{place}: some labels are words, that of {odd} is the number {given[odd]}")
    if unprintable := next((word for word in words if not word.isprintable()), None):
        raise DataError(f"{place}: {unprintable!a} cannot be the name of a class")
    check_distinct(words, place)
    place_of = {word: number for number, word in enumerate(words)}
    return tuple(words), [place_of[str(value)] for value in values], notes


def _label(value: Any, what: str) -> int | str:
    if isinstance(value, str):
        value = value.strip()
        if "_" not in value and value.isascii():  # Python takes the one for a separator, and digits of any script
            with contextlib.suppress(ValueError):
                value = float(value) if not value.lstrip("+-").isdigit() else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or value == "":
        raise DataError(f"{what} is missing")
    if isinstance(value, bool) or not isinstance(value, (int, str)) or (isinstance(value, int) and value < 0):
        raise DataError(f"{what} is {value!r}, neither a whole number from 0 nor a word")
    return value


def _matched(given: dict[str, Any], names: Sequence[str], place: str) -> list[str]:
    """For each file the name that the table has for it."""
    for _, short in WAYS:
        there = {short(name) for name in names}
        table = {short(file): file for file in given}
        alone = len(there) == len(names) and len(table) == len(given)
        if alone and there <= table.keys():
            return [table[short(name)] for name in names]
    absent = [name for name in names if name not in given]
    raise DataError(f"{place}: no label for {absent[0] if absent else names[0]} and {max(0, len(absent) - 1)} others")
