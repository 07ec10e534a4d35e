"""Where the samples of a shard lie in its bytes: what makes a tar readable from any point."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from realuid.data.decode import IMAGE_KINDS, DamagedSample, image_kind, source_kind
from realuid.data.reader import check_name

__all__ = ["Layout", "scan"]

IMAGE, SOURCE, LABEL = range(3)
MEMBERS = 3
NO_LABEL = -1


@dataclasses.dataclass
class Layout:
    """The samples of one shard in their order.

    keys: of each sample, [n].
    places: offset and size in bytes of the members image, source and label, int64 [n, 3, 2]; size -1 if absent.
    kinds: of image and source, as a place in IMAGE_KINDS, int8 [n, 2]; -1 if absent.
    labels: int64 [n]; -1 if absent or no number.
    crcs: crc32 of image and source, int64 [n].
    faults: samples known to be damaged: their reason and the complaint.
    problem: what is wrong with the shard as a whole; None if it is the one that the index means.
    ended: whether the shard ends as tars do, with a block of zeros; one that was cut between two members does not.
    state: what the file system told of a shard with a problem: another one is worth another look.
    """

    keys: NDArray[np.str_]
    places: NDArray[np.int64]
    kinds: NDArray[np.int8]
    labels: NDArray[np.int64]
    crcs: NDArray[np.int64]
    faults: dict[int, tuple[str, str]] = dataclasses.field(default_factory=dict)
    problem: str | None = None
    ended: bool = True
    state: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def to_bytes(self) -> bytes:
        """A line of JSON and the arrays one after the other; equal layouts are equal bytes.

        Not numpy's own format: its header is parsed by `ast`, which is not safe in threads before Python 3.12.
        """
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        head = {
            "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
            "faults": [[number, *fault] for number, fault in self.faults.items()],
            "problem": self.problem,
            "ended": self.ended,
            "state": self.state,
        }
        return b"".join([json.dumps(head).encode(), b"\n", *(array.tobytes() for array in arrays.values())])

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """Raises ValueError, KeyError or TypeError if the bytes are no layout."""
        first, _, rest = data.partition(b"\n")
        head, place, arrays = json.loads(first), 0, {}
        for name, dtype, shape in head["arrays"]:
            count = math.prod(shape)
            arrays[name] = np.frombuffer(rest, dtype, count, place).reshape(shape)
            place += arrays[name].nbytes
        if place != len(rest):
            raise ValueError(f"{len(rest)} bytes of arrays, {place} expected")
        faults = {int(number): (reason, text) for number, reason, text in head["faults"]}
        return cls(**arrays, faults=faults, problem=head["problem"], ended=head["ended"], state=head["state"])


ARRAYS = ("keys", "places", "kinds", "labels", "crcs")


def scan(place: str, path: str) -> Layout:
    """The layout of a plain tar on this machine, as far as it can be read; `place` is what complaints call it.

    What is wrong with a sample becomes one of the layout's faults. What a cut shard has lost can't be seen here: who
    knows the number of samples has to count.

    Raises:
        DamagedSample: a member has no name like KEY.png at all.
    """
    size = os.path.getsize(path)
    rows: list[tuple[str, list[list[int]], list[int], int, int]] = []
    faults: dict[int, tuple[str, str]] = {}
    seen: set[str] = set()
    with open(path, "rb") as file:
        walk = _Walk(file)
        for key, members, fault in _groups(place, walk, size):
            where = f"{place}, sample {key}"
            row = [[0, -1] for _ in range(MEMBERS)]
            kinds, crc = [-1, -1], 0
            try:
                if fault is not None:
                    raise fault
                if key in seen:
                    raise DamagedSample(f"{where}: its members lie apart, or it comes twice", "name")
                names = [(IMAGE, image_kind(where, members))]
                if any(kind.startswith("source.") for kind in members):
                    names.append((SOURCE, source_kind(where, members)))
                for member, name in names:
                    row[member] = [*members[name]]
                    kinds[member] = IMAGE_KINDS.index(name.rpartition(".")[2])
                    crc = zlib.crc32(_read(file, members[name]), crc)
            except DamagedSample as error:
                faults[len(rows)] = error.reason, str(error)
            seen.add(key)
            label = NO_LABEL
            if "cls" in members:
                row[LABEL] = [*members["cls"]]
                text = _read(file, members["cls"]).strip()
                label = int(text) if text.isdigit() and len(text) < 10 else NO_LABEL
            rows.append((key, row, kinds, label, crc))
    return Layout(
        keys=np.array([row[0] for row in rows], np.str_),
        places=np.array([row[1] for row in rows], np.int64).reshape(-1, MEMBERS, 2),
        kinds=np.array([row[2] for row in rows], np.int8).reshape(-1, 2),
        labels=np.array([row[3] for row in rows], np.int64),
        crcs=np.array([row[4] for row in rows], np.int64),
        faults=faults,
        ended=walk.ended,
    )


def _read(file: BinaryIO, place: tuple[int, int]) -> bytes:
    return os.pread(file.fileno(), place[1], place[0])


Members = dict[str, tuple[int, int]]


def _groups(place: str, walk: _Walk, size: int) -> Iterator[tuple[str, Members, DamagedSample | None]]:
    """Key by key: the members by kind, with offset and size, and what is wrong with them."""
    key: str | None = None
    members: Members = {}
    fault: DamagedSample | None = None
    for info in walk:
        wrong: DamagedSample | None = None
        try:
            found, kind = check_name(place, info.name)
        except DamagedSample as error:
            found = info.name.partition(".")[0]
            if found == info.name or not os.path.basename(found):
                raise  # not even the beginning of a sample
            kind, wrong = info.name, error
        if found != key:
            if key is not None:
                yield key, members, fault
            key, members, fault = found, {}, None
        if kind in members:
            wrong = DamagedSample(f"{place}, member {info.name}: duplicate file name in tar file", "name")
        if info.offset_data + info.size > size:
            wrong = DamagedSample(f"{place} is damaged in {info.name}: unexpected end of data", "cut")
        members[kind] = (info.offset_data, info.size)
        fault = fault or wrong
    if key is not None:
        yield key, members, fault


class _Walk:
    """The regular files of a tar up to where it breaks off; `ended` says afterwards that it did not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.ended = False

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # otherwise all of them are kept
                    if info.isreg():
                        yield info
                block = os.pread(self._file.fileno(), tarfile.BLOCKSIZE, tar.offset)
                self.ended = block == bytes(tarfile.BLOCKSIZE)
        except (tarfile.TarError, OSError, EOFError):
            return  # whoever knows the number of samples counts
