"""Where the samples of a shard lie in its bytes: what makes a tar readable from any point."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from realuid.data.shards.decode import FIELD, IMAGE_KINDS, DamagedSample, image_kind, source_kind
from realuid.data.shards.tars import Member, walk
from realuid.utils import budget

__all__ = ["Layout", "Members", "check_name", "samples_of", "scan"]

IMAGE, SOURCE, LABEL = range(3)
MEMBERS = 3
NO_LABEL = -1
LABEL_BYTES = 64
Members = dict[str, tuple[int, int]]
"""The members of a sample by kind (`png`, `cls`, `text.npy`): offset and size in bytes."""


@dataclasses.dataclass
class Layout:
    """The samples of one shard in their order.

    keys: of each sample, [n].
    places: offset and size in bytes of the members image, source, label and each of `fields`, int64 [n, 3 + F, 2];
        size -1 if absent.
    kinds: of image and source, as a place in IMAGE_KINDS, int8 [n, 2]; -1 if absent.
    labels: int64 [n]; -1 if absent or no number.
    crcs: crc32 of image, source and fields, int64 [n].
    fields: names of the conditions' fields that any sample has, sorted.
    faults: samples known to be damaged: their reason and the complaint.
    problem: what is wrong with the shard as a whole; None if it is the one that the index means.
    ended: whether the shard ends as tars do, with a block of zeros; one that was cut between two members does not.
    state: of a copy in the cache, its length and time: a copy that was changed since is not trusted.
    """

    keys: NDArray[np.str_]
    places: NDArray[np.int64]
    kinds: NDArray[np.int8]
    labels: NDArray[np.int64]
    crcs: NDArray[np.int64]
    fields: tuple[str, ...] = ()
    faults: dict[int, tuple[str, str]] = dataclasses.field(default_factory=dict)
    problem: str | None = None
    ended: bool = True
    state: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def lies_in(self, size: int) -> bool:
        """Whether all members lie in a shard of `size` bytes."""
        start, length = self.places[..., 0], self.places[..., 1]
        there = length >= 0
        return bool(((start >= 0) & (start <= size) & (length <= size) & (start + length <= size))[there].all())

    def to_bytes(self) -> bytes:
        """A line of JSON and the arrays one after the other; equal layouts are equal bytes.

        Not numpy's own format: its header is parsed by `ast`, which is not safe in threads before Python 3.12.
        """
        arrays = {name: np.ascontiguousarray(vars(self)[name]) for name in ARRAYS}
        head = {
            "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
            "faults": [[number, *fault] for number, fault in self.faults.items()],
            "problem": self.problem,
            "ended": self.ended,
            "state": self.state,
        } | ({"fields": self.fields} if self.fields else {})
        return b"".join([json.dumps(head).encode(), b"\n", *(array.tobytes() for array in arrays.values())])

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """Raises ValueError, KeyError or TypeError if the bytes are no layout."""
        first, _, rest = data.partition(b"\n")
        head, place = budget.parsed(first, "its head"), 0
        arrays: dict[str, Any] = {}
        for name, dtype, shape in head["arrays"]:
            count = math.prod(shape)
            if min(shape, default=0) < 0 or name not in ARRAYS:
                raise ValueError(f"an array {name} of {shape}")
            arrays[name] = np.frombuffer(rest, dtype, count, place).reshape(shape)
            place += arrays[name].nbytes
        if place != len(rest):
            raise ValueError(f"{len(rest)} bytes of arrays, {place} expected")
        fields = tuple(map(str, head.get("fields", ())))
        _check_arrays(arrays, MEMBERS + len(fields))
        faults = {int(number): (str(reason), str(text)) for number, reason, text in head["faults"]}
        if faults and not 0 <= min(faults) <= max(faults) < len(arrays["keys"]):
            raise ValueError("a fault of a sample that there is not")
        told: dict[str, Any] = {name: head[name] for name in ("problem", "ended", "state")}
        return cls(**arrays, fields=fields, faults=faults, **told)

    def place(self, number: int, field: str) -> tuple[int, int]:
        """Offset and size of a field of a sample; the size is -1 if it is absent."""
        if field not in self.fields:
            return 0, -1
        offset, size = self.places[number, MEMBERS + self.fields.index(field)].tolist()
        return offset, size


ARRAYS = ("keys", "places", "kinds", "labels", "crcs")


def _check_arrays(arrays: Mapping[str, NDArray[Any]], members: int) -> None:
    """Raises ValueError if they are not those of one layout, with so many places a sample."""
    count = len(arrays["keys"])
    shapes = {
        "keys": (count,),
        "places": (count, members, 2),
        "kinds": (count, 2),
        "labels": (count,),
        "crcs": (count,),
    }
    for name in ARRAYS:
        if arrays[name].shape != shapes[name] or arrays[name].dtype.kind != ("U" if name == "keys" else "i"):
            raise ValueError(f"an array {name} of {arrays[name].dtype} {arrays[name].shape}")
    if count and not (-1 <= arrays["kinds"].min() <= arrays["kinds"].max() < len(IMAGE_KINDS)):
        raise ValueError("an unknown kind of image")


def scan(place: str, path: str) -> Layout:
    """The layout of a plain tar on this machine, as far as it can be read; `place` is what complaints call it.

    What is wrong with a sample becomes one of the layout's faults. What a cut shard has lost can't be seen here: who
    knows the number of samples has to count.

    Raises:
        DamagedSample: a member has no name like KEY.png at all.
        SparseMembers: see `tars.walk`.
    """
    rows: list[tuple[str, list[list[int]], list[int], int, int]] = []
    fields: list[Members] = []
    faults: dict[int, tuple[str, str]] = {}
    seen: set[str] = set()
    with open(path, "rb") as file:
        found, broken = walk(file)
        for key, members, fault in samples_of(place, found, os.path.getsize(path)):
            where = f"{place}, sample {key}"
            row = [[0, -1] for _ in range(MEMBERS)]
            kinds, crc = [-1, -1], 0
            told: Members = {}
            try:
                if fault is not None:
                    raise fault
                if key in seen:
                    raise DamagedSample(f"{where}: its members lie apart, or it comes twice", "name")
                told = {kind.removesuffix(".npy"): spot for kind, spot in members.items() if _is_field(kind)}
                # A set of conditions without images is a set, too: who wants images says that they are missing.
                images = [(IMAGE, image_kind(where, members))] if _has_image(members) else []
                if any(kind.startswith("source.") for kind in members):
                    images.append((SOURCE, source_kind(where, members)))
                for member, name in images:
                    row[member] = [*members[name]]
                    kinds[member] = IMAGE_KINDS.index(name.rpartition(".")[2])
                    crc = zlib.crc32(_read(file, members[name]), crc)
                for name in sorted(told):
                    crc = zlib.crc32(_read(file, told[name]), crc)
            except DamagedSample as error:
                faults[len(rows)] = error.reason, str(error)
            seen.add(key)
            label = NO_LABEL
            if "cls" in members:
                row[LABEL] = [*members["cls"]]
                text = _read(file, (members["cls"][0], min(members["cls"][1], LABEL_BYTES))).strip()
                label = int(text) if text.isdigit() and len(text) < 10 else NO_LABEL
            rows.append((key, row, kinds, label, crc))
            fields.append(told)
    names = sorted({name for told in fields for name in told})
    places = [[*row[1], *(told.get(name, (0, -1)) for name in names)] for row, told in zip(rows, fields, strict=True)]
    return Layout(
        keys=np.array([row[0] for row in rows], np.str_),
        places=np.array(places, np.int64).reshape(-1, MEMBERS + len(names), 2),
        kinds=np.array([row[2] for row in rows], np.int8).reshape(-1, 2),
        labels=np.array([row[3] for row in rows], np.int64),
        crcs=np.array([row[4] for row in rows], np.int64),
        fields=tuple(names),
        faults=faults,
        ended=broken is None,
    )


def samples_of(place: str, found: Sequence[Member], size: int) -> Iterator[tuple[str, Members, DamagedSample | None]]:
    """Key by key: the members of a tar of `size` bytes by kind, and what is wrong with them."""
    key: str | None = None
    members: Members = {}
    fault: DamagedSample | None = None
    for name, offset, length, link in found:
        wrong: DamagedSample | None = None
        try:
            here, kind = check_name(place, name)
        except DamagedSample as error:
            here = name.partition(".")[0]
            if here == name or not os.path.basename(here):
                raise  # not even the beginning of a sample
            kind, wrong = name, error
        if here != key:
            if key is not None:
                yield key, members, fault
            key, members, fault = here, {}, None
        if kind in members:
            wrong = DamagedSample(f"{place}, member {name}: duplicate file name in tar file", "name")
        if link is not None:
            wrong = DamagedSample(f"{place}, member {name}: {link}", "missing")
        elif offset + length > size:
            wrong = DamagedSample(f"{place} is damaged in {name}: unexpected end of data", "cut")
        members[kind] = (offset, length)
        fault = fault or wrong
    if key is not None:
        yield key, members, fault


def check_name(place: str, name: str) -> tuple[str, str]:
    """Key and kind of a member called `name`.

    Raises:
        DamagedSample: the name is none, or has a dot too many: webdataset would split it at the first one.
    """
    from webdataset.tariterators import base_plus_ext  # imported where needed: it is slow

    key, kind = base_plus_ext(name)
    if key is None:
        raise DamagedSample(f"{place}, member {name}: expected a name like KEY.png or KEY.cls", "name")
    kind = kind.lower()
    role, _, form = kind.rpartition(".")
    image, field = role in ("source", "target") and form in IMAGE_KINDS, FIELD.fullmatch(role) and form == "npy"
    if role and not (image or field):
        raise DamagedSample(
            f"{place}, member {name}: a dot in the key (it would be read as key {key}, kind {kind})", "name"
        )
    return key, kind


def _is_field(kind: str) -> bool:
    role, _, form = kind.rpartition(".")
    return form == "npy" and role not in ("", "source", "target")


def _has_image(members: Members) -> bool:
    return any(kind.removeprefix("target.") in IMAGE_KINDS for kind in members)


def _read(file: BinaryIO, place: tuple[int, int]) -> bytes:
    return os.pread(file.fileno(), place[1], place[0])
