"""What a shard holds against what its index says: the layout of the shard, with its faults."""

from __future__ import annotations

import dataclasses
import os
import zlib

import numpy as np
from loguru import logger

from realuid.data.shards.index import Shard, check_samples
from realuid.data.shards.layout import LABEL, MEMBERS, Layout, scan
from realuid.data.shards.tars import nature
from realuid.utils.errors import DataError

__all__ = ["described"]


def described(
    place: str, path: str, shard: Shard, length: int, sha256: str, broken: str | None, stored: Layout | None
) -> Layout:
    """The layout of a shard, with everything in it that is not as the index says.

    Args:
        place: what complaints call the shard.
        path: of the plain tar.
        shard: what the index says.
        length: bytes that the shard has, compressed if it is.
        sha256: of these.
        broken: why unpacking ended early.
        stored: the layout that was written with the shard.

    Raises:
        DataError: the shard holds more samples than the index says.
        SparseMembers: see `tars.walk`.
    """
    check_samples(place, shard.samples, length)
    intact, size = (length, sha256) == (shard.bytes, shard.sha256), os.path.getsize(path)
    if stored is not None and (intact or size == shard.bytes) and not stored.lies_in(size):
        logger.warning("{}: its layout speaks of more than there is: the shard is searched instead", place)
        stored = None
    if intact and stored is not None:
        return stored
    if stored is not None and size == shard.bytes:
        layout = _compared(place, path, stored)
    else:
        layout = scan(place, path)
        if len(layout) == 0 and (found := nature(path)):
            broken = f"it is {found}"
        if stored is not None:
            layout = _matched(place, layout, stored, broken)
    layout = _counted(place, layout, shard.samples, broken)
    if not intact:
        layout.problem = (
            f"{place} has {length} bytes and sha256 {sha256[:12]}, "
            f"the index says {shard.bytes} and {shard.sha256[:12]}: the shard was changed or cut"
        )
    return layout


def _compared(place: str, path: str, stored: Layout) -> Layout:
    """The stored layout, with the samples whose bytes were changed."""
    faults = {}
    with open(path, "rb") as file:
        for number, members in enumerate(stored.places.tolist()):
            crc = 0
            for offset, size in (*members[:LABEL], *members[MEMBERS:]):
                if size >= 0:
                    crc = zlib.crc32(os.pread(file.fileno(), size, offset), crc)
            if crc != stored.crcs[number]:
                faults[number] = _changed(place, stored, number)
    return dataclasses.replace(stored, faults=stored.faults | faults)


def _matched(place: str, found: Layout, stored: Layout, broken: str | None) -> Layout:
    """The stored layout with the places that its samples have in a shard of another length."""
    rows = {str(key): row for row, key in enumerate(found.keys)}
    columns = [*range(MEMBERS), *(MEMBERS + found.fields.index(n) if n in found.fields else -1 for n in stored.fields)]
    places = np.empty_like(stored.places)
    places[...] = (0, -1)
    labels = np.full_like(stored.labels, -1)
    faults: dict[int, tuple[str, str]] = {}
    for number, key in enumerate(stored.keys):
        row = rows.get(str(key))
        if row is None:
            lost = f"{place}, sample {key}: it is not there: is the shard cut short?"
            faults[number] = "cut", lost if len(found) else _short(place, 0, len(stored), broken)
            continue
        for column, source in enumerate(columns):
            if source >= 0:
                places[number, column] = found.places[row, source]
        labels[number] = found.labels[row]
        if row in found.faults:
            faults[number] = found.faults[row]
        elif found.crcs[row] != stored.crcs[number]:
            faults[number] = _changed(place, stored, number)
    return dataclasses.replace(stored, places=places, labels=labels, faults=faults)


def _short(place: str, found: int, samples: int, broken: str | None) -> str:
    how = f" ({broken})" if broken else ""
    return f"{place} holds {found} samples, the index says {samples}: is it cut short?{how}"


def _changed(place: str, stored: Layout, number: int) -> tuple[str, str]:
    return "changed", f"{place}, sample {stored.keys[number]}: its bytes are not those that were written"


def _counted(place: str, layout: Layout, samples: int, broken: str | None) -> Layout:
    """The layout brought to the number of samples that the index says."""
    found = len(layout)
    if found > samples:
        for reason, text in layout.faults.values():
            if reason == "name":  # it may be why there are more
                raise DataError(text)
        raise DataError(f"{place}, sample {layout.keys[samples]}: the index counts only {samples} samples")
    if found < samples:
        text, lost = _short(place, found, samples, broken), samples - found
        layout = Layout(
            keys=np.concatenate([layout.keys, np.array([f"number {found + i}" for i in range(lost)])]),
            places=np.concatenate([layout.places, np.full((lost, *layout.places.shape[1:]), -1)]),
            kinds=np.concatenate([layout.kinds, np.full((lost, 2), -1, np.int8)]),
            labels=np.concatenate([layout.labels, np.full(lost, -1)]),
            crcs=np.concatenate([layout.crcs, np.zeros(lost, np.int64)]),
            fields=layout.fields,
            faults=layout.faults | {found + i: ("cut", text) for i in range(lost)},
        )
    return layout
