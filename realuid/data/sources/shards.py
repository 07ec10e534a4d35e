"""Samples of shards, to be packed anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realuid.conditions import Field
from realuid.data.shards.cache import Cache
from realuid.data.shards.captions import CAPTION_MEMBERS
from realuid.data.shards.decode import IMAGE_KINDS, DamagedSample, image_kind, source_kind
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.layout import LABEL, MEMBERS, SOURCE, Layout, Members, samples_of
from realuid.data.shards.listing import Listed, matches
from realuid.data.shards.tars import walk
from realuid.data.sources.base import Damaged, Raw, Source, numbered
from realuid.data.sources.tables import has_label
from realuid.utils.arrays import npy
from realuid.utils.errors import DataError

__all__ = ["LIMIT", "Shards"]

LIMIT = 50_000_000_000
"""Bytes of copies that are kept of remote shards."""
OPEN = 64
"""Shards that are read at once."""


class _Opened(NamedTuple):
    """A shard that is being read: its layout, the members of each sample, and the file."""

    layout: Layout
    samples: list[Members]
    file: int

    def content(self, row: int, kind: str) -> bytes:
        offset, size = self.samples[row][kind]
        return os.pread(self.file, size, offset)


class Shards(Source):
    """Samples of shards: images, sources of pairs, labels, captions and fields of conditions.

    Args:
        shards: all of them.
        index: what is known of them; None for shards that were found by a pattern.
        labels: whether labels are kept.
        pattern: by which they were found.

    Raises:
        DataError: a shard is damaged; or some samples have a label, a source or a field, and others have none.
    """

    mixed = True

    def __init__(self, shards: Sequence[Listed], index: ShardIndex | None, *, labels: bool, pattern: str = "") -> None:
        self.pattern = pattern
        self.shards = [entry for entry in shards if entry.shard.samples]  # some writers leave an empty one
        if not self.shards:
            raise DataError(f"{shards[0].folder}: its shards are empty")
        self.grey = index is not None and index.channels == 1
        self.encoder: Mapping[str, str] = index.encoder if index else {}
        self._starts = np.concatenate([[0], np.cumsum([entry.shard.samples for entry in self.shards])])
        self._opened: dict[int, _Opened] = {}
        layouts = {f"{entry.folder}/{entry.shard.file}": self._local(entry)[1] for entry in self.shards}
        self.pairs = _all_or_none(layouts, "source image", lambda layout: layout.places[:, SOURCE, 1] >= 0)
        self.classes = _classes(layouts, index) if labels else ()
        self._fields = sorted({name for layout in layouts.values() for name in layout.fields})
        for name in self._fields:
            _all_or_none(layouts, f"member {name}.npy", lambda layout, name=name: _has_field(layout, name))  # type: ignore[misc]
        self.conditions = index.conditions if index else tuple(self._field(name) for name in self._fields)
        self.notes = self._left_out()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, number: int) -> Raw:
        home = int(np.searchsorted(self._starts, number, side="right")) - 1
        entry, row = self.shards[home], number - int(self._starts[home])
        opened = self._open(home)
        name = f"{entry.folder}/{entry.shard.file}, sample {opened.layout.keys[row]}"
        if row in opened.layout.faults:
            raise Damaged(opened.layout.faults[row][1])
        members = opened.samples[row]
        try:
            kinds = [image_kind(name, members)] + ([source_kind(name, members)] if self.pairs else [])
        except DamagedSample as error:
            raise Damaged(str(error)) from None
        files = [(kind.rpartition(".")[2], opened.content(row, kind)) for kind in kinds]
        kept = [kind for kind in (*CAPTION_MEMBERS, *(f"{field}.npy" for field in self._fields)) if kind in members]
        return Raw(
            name,
            files[0],
            int(opened.layout.labels[row]) if self.classes else 0,
            files[1] if self.pairs else None,
            extras={kind: opened.content(row, kind) for kind in kept},
        )

    def would_take(self, place: Path) -> str | None:
        written = (folder / "train-000000.tar" for folder in (place.absolute(), place.resolve()))
        return self.pattern if self.pattern and any(matches(self.pattern, str(shard)) for shard in written) else None

    def fingerprint(self) -> str:
        facts = "".join(entry.shard.sha256 for entry in self.shards) + repr(self.classes)
        return hashlib.sha256(facts.encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    @staticmethod
    def _local(entry: Listed) -> tuple[str, Layout]:
        local = Cache(folder=None, limit=LIMIT).get(entry.folder, entry.shard)
        if local.layout.problem:
            raise DataError(local.layout.problem)
        return local.path, local.layout

    def _open(self, home: int) -> _Opened:
        if home not in self._opened:
            entry = self.shards[home]
            path, layout = self._local(entry)
            if len(self._opened) >= OPEN:
                os.close(self._opened.pop(next(iter(self._opened))).file)
            with open(path, "rb") as file:
                place = f"{entry.folder}/{entry.shard.file}"
                found = samples_of(place, walk(file).members, os.path.getsize(path))
                samples = [members for _, members, _ in found]
            self._opened[home] = _Opened(layout, samples, os.open(path, os.O_RDONLY))
        return self._opened[home]

    def _field(self, name: str) -> Field:
        """What a field is, by the first sample that has it."""
        try:
            array = npy(self._open(0).content(0, f"{name}.npy"))
            if array.dtype != np.uint16:
                return Field(name, array.shape, array.dtype.name)
        except (KeyError, ValueError) as error:
            raise DataError(f"{self.shards[0].folder}: the first sample's {name}.npy cannot be read: {error}") from None
        raise DataError(
            f"{self.shards[0].folder}: {name}.npy holds 16 bits, of which only an index says what they are "
            "(bfloat16?): name the folder of the index, not a pattern"
        )

    def _left_out(self) -> tuple[str, ...]:
        """A note of members that are not kept, by the first sample."""
        kept = {"cls", *CAPTION_MEMBERS, *(f"{field}.npy" for field in self._fields)}
        members = self._open(0).samples[0]
        images = {kind for kind in members if kind.removeprefix("target.").removeprefix("source.") in IMAGE_KINDS}
        others = sorted(members.keys() - kept - images)
        place = f"{self.shards[0].folder}/{self.shards[0].shard.file}"
        notes = [f"{place}: members of other kinds are left out: {', '.join(others)}"] if others else []
        if "cls" not in members and "json" in members:
            with contextlib.suppress(ValueError):
                if has_label(self._open(0).content(0, "json")):
                    notes.append(
                        f"{place}: labels are read from members KEY.cls alone; those in json stay there unread"
                    )
        return tuple(notes)


def _has_field(layout: Layout, name: str) -> NDArray[np.bool_]:
    if name not in layout.fields:
        return np.zeros(len(layout), np.bool_)
    return np.asarray(layout.places[:, MEMBERS + layout.fields.index(name), 1] >= 0)


def _all_or_none(layouts: Mapping[str, Layout], what: str, there: Callable[[Layout], NDArray[np.bool_]]) -> bool:
    """Whether all samples have something; raises DataError, naming one, if only some do. Damaged samples do not
    count."""
    first: dict[bool, str] = {}
    for place, layout in layouts.items():
        has = there(layout)
        for number in range(len(layout)):
            if number not in layout.faults:
                first.setdefault(bool(has[number]), f"{place}, sample {layout.keys[number]}")
    if len(first) == 2:
        raise DataError(f"{first[False]} has no {what}, but {first[True]} has one")
    return first.get(True) is not None


def _classes(layouts: Mapping[str, Layout], index: ShardIndex | None) -> tuple[str, ...]:
    """The classes of an index, or else as many as the labels need; raises DataError if a label is no number."""
    if index is not None and index.classes:
        return index.classes
    if not _all_or_none(layouts, "label", lambda layout: layout.places[:, LABEL, 1] >= 0):
        return ()
    most = 0
    for place, layout in layouts.items():
        for number in np.flatnonzero(layout.labels < 0):
            if int(number) not in layout.faults:
                raise DataError(
                    f"{place}, sample {layout.keys[number]}: its label is no whole number; --labels none leaves all out"
                )
        most = max(most, int(layout.labels.max(initial=0)))
    return numbered(1 + most, next(iter(layouts)))
