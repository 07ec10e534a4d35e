"""Folders and zips of images, with labels and captions beside them."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from realuid.data.shards.captions import CAPTION, as_members
from realuid.data.shards.decode import IMAGE_KINDS
from realuid.data.sources.base import Damaged, Raw, Source, check_distinct
from realuid.data.sources.split_names import is_split
from realuid.data.sources.tables import Row, has_label, labelled_by, labels_in, rows_of
from realuid.data.sources.trees import Tree, ending, folders_of
from realuid.utils.errors import DataError
from realuid.utils.remote import first_line

__all__ = ["Files", "splits_of"]

KINDS = {kind: kind for kind in IMAGE_KINDS} | {"jfif": "jpg", "jpe": "jpg"}
TABLE = "dataset.json"
METADATA = ("metadata.jsonl", "metadata.csv")
NUMBERED = re.compile(r"\d{5}/img\d{8}\.\w+")
"""Files as EDM's and StyleGAN's tools name them, in folders that are no classes."""
SHOWN = 6


def splits_of(tree: Tree, labels: str = "auto") -> dict[str, Files]:
    """The images of a folder or zip by split: folders called `train`, `val`, `test` and the like are splits, else
    everything is of the split "train". Folders around everything are passed over.

    Args:
        tree: the files of the folder or zip.
        labels: "auto", "none", or a table of labels (`tables.py`).

    Raises:
        DataError: no images, or labels that do not fit them.
    """
    path, tree = tree.path, _unwrapped(tree)
    tops = set(folders_of(_images(tree)))
    named = sorted(top for top in tops if top is not None and is_split(top))
    if not named:
        return {"train": Files(tree, labels)}
    if tops != set(named):
        other = sorted(str(top) for top in tops - set(named) if top is not None) or ["images of no folder"]
        raise DataError(
            f"{path} holds {', '.join(named)}, which look like splits, beside {', '.join(other[:SHOWN])}: give one of "
            "the folders as SOURCE"
        )
    table = [name for name in (TABLE, *METADATA) if name in tree.sizes]
    if table:
        raise DataError(f"{path}: {table[0]} lies outside of the splits {', '.join(named)}: put one into each")
    parts, passed_over = {name: tree.inside(name) for name in named}, tree.outside(named)
    while len(around := {_around(part) for part in parts.values()}) == 1 and (folder := around.pop()) is not None:
        for part in parts.values():
            passed_over += part.outside([folder])
        parts = {name: part.inside(folder) for name, part in parts.items()}
    next(iter(parts.values())).left_out += passed_over  # so that they are counted once
    splits = {name: Files(part, labels) for name, part in parts.items()}
    _unify(path, splits)
    return splits


def _images(tree: Tree) -> list[str]:
    return sorted(name for name in tree.sizes if name.lower().rpartition(".")[2] in KINDS)


def _unwrapped(tree: Tree) -> Tree:
    """The tree without folders that hold everything in it; one that has the name of a split stays."""
    while (folder := _around(tree)) is not None and not is_split(folder):
        passed_over = tree.outside([folder])
        tree = tree.inside(folder)
        tree.left_out += passed_over
    return tree


def _around(tree: Tree) -> str | None:
    """The folder that holds all images, and what is said of them."""
    tables = [name for name in tree.sizes if name.rpartition("/")[2] in (TABLE, *METADATA)]
    tops = set(folders_of([*_images(tree), *tables]))
    return next(iter(tops)) if len(tops) == 1 else None


def _unify(path: str, splits: Mapping[str, Files]) -> None:
    """Gives all splits the same classes, those of any of them."""
    kinds = {bool(files.classes) for files in splits.values()}
    if len(kinds) > 1:
        have = [name for name, files in splits.items() if files.classes]
        lack = sorted(set(splits) - set(have))
        raise DataError(
            f"{path}: {', '.join(have)} has classes, {', '.join(lack)} has none: give one of the folders as SOURCE, or "
            "say --labels none"
        )
    most = max((files.classes for files in splits.values()), key=len)
    if any(files.classes != most[: len(files.classes)] for files in splits.values()):
        most = tuple(sorted({name for files in splits.values() for name in files.classes}))
        check_distinct(most, path)
    for files in splits.values():
        files.relabel(most)


class Files(Source):
    """Image files, or `.npy` latents, in the order of their names.

    Labels come from `dataset.json` (as EDM and StyleGAN write it), from `metadata.jsonl` or `.csv` (as in folders of
    Hugging Face), from a table of the user's, or from the first folder of each name if all files lie in one. Captions
    come from `metadata.jsonl` or `.csv`, or from `NAME.txt` and `NAME.json` beside `NAME.png`.

    Args:
        tree: the files.
        labels: "auto", "none", or the path of a table.

    Raises:
        DataError: no images, or labels that do not fit them.
    """

    def __init__(self, tree: Tree, labels: str = "auto") -> None:
        self.tree, self.path = tree, tree.path
        self.names = _images(tree)
        self._used = {name for name in (TABLE, *METADATA) if name in tree.sizes}
        metadata = [name for name in METADATA if name in tree.sizes]
        if len(metadata) > 1:
            raise DataError(f"{self.path} holds {' and '.join(metadata)}: keep the one that is meant")
        self._metadata = metadata[0] if metadata else METADATA[0]
        place = f"{self.path}/{self._metadata}"
        rows = rows_of(self._metadata, self._bytes(self._metadata), place) if metadata else []
        self._captions = _by_file(place, rows, set(self.names))
        there = set(self.names)
        self._absent = sum(file not in there for file, _ in rows)
        self._beside = self._found_beside()
        if not self.names:
            raise DataError(f"{self.path} holds no images ({', '.join(KINDS)}){_listed('; there are', self._others())}")
        notes: list[str] = []
        self.classes, self._labels = self._labelled(labels, rows, notes)
        if labels == "auto" and not self.classes and self._labels_beside():
            notes.append(f"{self.path}: labels are read from tables and folders; those in NAME.json are not read")
        self.notes = (*self._told(), *notes)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int) -> Raw:
        name = self.names[number]
        place = f"{self.path}/{name}"
        try:
            data = self.tree.read(name)
            extras = {kind: self.tree.read(file) for kind, file in self._beside.get(name, {}).items()}
        except (OSError, ValueError) as error:
            raise Damaged(f"{place} cannot be read: {first_line(error)}") from error
        columns = self._captions.get(name)
        if columns is not None:
            if extras:
                raise DataError(f"{place} has a caption beside it, and one in {self._metadata}")
            try:
                extras = as_members(columns)
            except ValueError as error:
                raise Damaged(f"{place}: {error}") from None
        return Raw(place, (KINDS[name.lower().rpartition(".")[2]], data), self._labels[number], extras=extras)

    def would_take(self, place: Path) -> str | None:
        return self.tree.holds(place)

    def fingerprint(self) -> str:
        beside = [(name, self.tree.stamp(file)) for name, files in self._beside.items() for file in files.values()]
        stamps = [self.tree.stamp(name) for name in self.names]
        facts = (self.names, stamps, self._labels, self.classes, sorted(beside), sorted(self._captions.items()))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def relabel(self, classes: tuple[str, ...]) -> None:
        """Numbers the labels by their place among these classes, which hold all of its own."""
        place = {name: i for i, name in enumerate(classes)}
        if self.classes:
            self._labels = [place[self.classes[label]] for label in self._labels]
        self.classes = classes

    def _labelled(self, labels: str, metadata: Sequence[Row], notes: list[str]) -> tuple[tuple[str, ...], list[int]]:
        none: tuple[tuple[str, ...], list[int]] = ((), [0] * len(self.names))
        if labels == "none":
            return none
        rows, place = list(metadata), f"{self.path}/{self._metadata}"
        if labels != "auto":
            rows, place = rows_of(labels, _local(labels), labels), labels
        elif TABLE in self.tree.sizes:
            place = f"{self.path}/{TABLE}"
            rows = rows_of(TABLE, self._bytes(TABLE), place)
            if rows and labels_in(metadata):
                raise DataError(f"{place} and {self._metadata} both hold labels: say which by --labels, or none")
            if not rows:  # written by EDM's tools for sets without labels
                return none
        if told := labels_in(rows):
            classes, numbers, beyond = labelled_by(told, self.names, place)
            notes += beyond
            return classes, numbers
        if labels != "auto":
            raise DataError(f"{labels} holds no labels")
        return self._labelled_by_folders(none)

    def _labelled_by_folders(self, none: tuple[tuple[str, ...], list[int]]) -> tuple[tuple[str, ...], list[int]]:
        folders = folders_of(self.names)
        named = sorted({folder for folder in folders if folder is not None})
        if not named or all(NUMBERED.fullmatch(name) for name in self.names):
            return none
        if None in folders:
            raise DataError(
                f"{self.path}: some images lie in folders, {self.names[folders.index(None)]} does not: are the folders "
                "classes? Say --labels none if not"
            )
        inner = next((name for name in self.names if is_split((name.split("/")[1:-1] or [""])[0])), None)
        if inner is not None:
            raise DataError(
                f"{self.path}: {inner} lies in what looks like a split, inside of a class: put the folders of the "
                "splits around those of the classes, or say --labels none"
            )
        for folder in named:
            if not folder.isprintable():  # also what is no UTF-8, which the index could not hold
                raise DataError(f"{self.path}: the folder {folder!a} cannot be the name of a class: rename it")
        check_distinct(named, self.path)
        place = {folder: i for i, folder in enumerate(named)}
        return tuple(named), [place[folder] for folder in folders if folder is not None]

    def _found_beside(self) -> dict[str, dict[str, str]]:
        """For each image the files with its name that tell something of it, by kind."""
        found: dict[str, dict[str, str]] = {}
        for name in self.names:
            stem = str(PurePosixPath(name).with_suffix(""))
            beside = {kind: f"{stem}.{kind}" for kind in ("txt", "json") if f"{stem}.{kind}" in self.tree.sizes}
            if beside and not self._used.intersection(beside.values()):
                found[name] = beside
                self._used.update(beside.values())
        return found

    def _labels_beside(self) -> bool:
        """Whether the first image with a JSON file beside it has a label in that."""
        first = next((beside["json"] for beside in self._beside.values() if "json" in beside), None)
        with contextlib.suppress(OSError, ValueError):  # told when the image is read
            return first is not None and has_label(self.tree.read(first))
        return False

    def _others(self) -> collections.Counter[str]:
        """Files that are passed over, by their ending."""
        others = self.tree.sizes.keys() - set(self.names) - self._used
        return collections.Counter(map(ending, others))

    def _told(self) -> list[str]:
        """What the user is told."""
        told = []
        if others := self._others() + self.tree.left_out:
            told.append(f"{self.path}: {sum(others.values())} files are passed over{_listed(':', others)}")
        if self._absent:
            told.append(f"{self.path}: its metadata names {self._absent} files that are not there")
        told_in_rows = sum(any(columns.get(name) for name in CAPTION) for columns in self._captions.values())
        if captions := told_in_rows + len(self._beside):
            told.append(f"{self.path}: {captions} of {len(self.names)} images have a caption")
        return told

    def _bytes(self, name: str) -> bytes:
        try:
            return self.tree.read(name)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}/{name} cannot be read: {first_line(error)}") from None


def _by_file(place: str, rows: Sequence[Row], names: set[str]) -> dict[str, dict[str, Any]]:
    """The columns beside label and name of each image that a table has more to say of."""
    found: dict[str, dict[str, Any]] = {}
    for file, columns in rows:
        if file in names and len(columns) > len(labels_in([(file, columns)])):
            if file in found and found[file] != columns:
                raise DataError(f"{place} names {file} twice")
            found[file] = columns
    return found


def _local(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"labels in {path} cannot be read: {first_line(error)}") from error


def _listed(before: str, counts: collections.Counter[str]) -> str:
    """`: 3 .bmp, 1 .gif`."""
    if not counts:
        return ""
    shown = [f"{count} {kind}" for kind, count in counts.most_common(SHOWN)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(SHOWN))
    return f"{before} {', '.join(shown)}" + (f", {rest} others" if rest else "")
