"""The shards of a conversion, one after the other or by many processes."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realuid.data.preparation.encoding import Encoding
from realuid.data.preparation.prepare import Preparation
from realuid.data.shards.captions import CAPTION_MEMBERS, caption_of
from realuid.data.shards.files import put_bytes, write_shard
from realuid.data.shards.index import Shard
from realuid.data.shards.location import read_file
from realuid.data.sources import Damaged, Source
from realuid.utils import budget
from realuid.utils.arrays import npy
from realuid.utils.errors import DataError

__all__ = ["DONE_SUFFIX", "Done", "Fault", "Task", "Way", "worked"]

DONE_SUFFIX = ".done"


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard that is to be written: samples `numbers` of a split, stored from number `first` on."""

    dest: str
    split: str
    number: int
    first: int
    numbers: NDArray[np.int64]

    @property
    def file(self) -> str:
        return f"{self.split}-{self.number:06d}.tar"


class Fault(NamedTuple):
    """Why a sample is not taken, and whether it is damaged rather than unfit."""

    text: str
    damaged: bool


@dataclasses.dataclass(frozen=True)
class Done:
    """A shard that was written, and what the index needs of it; or none, and what is wrong."""

    shard: Shard | None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    kinds: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclasses.dataclass(frozen=True)
class Way:
    """How samples become those of a shard: how they are cropped and resized, and what they are then encoded by, if by
    anything; whether damaged ones are left out."""

    preparation: Preparation
    encoding: Encoding | None
    skip_damaged: bool


def worked(
    tasks: Sequence[Task], sources: Mapping[str, Source], way: Way, workers: int
) -> Generator[tuple[Task, Done], None, None]:
    """The tasks as they are finished. Processes that are still at work when the iteration ends are stopped. Those that
    encode take the machine's GPUs in turn.

    Raises:
        DataError: a shard cannot be written, or a process died.
    """
    if not workers:
        for task in tasks:
            yield task, _work(task, sources[task.split], way)
        return
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    settings = (dict(sources), way, context.Value("i", 0), workers)
    with ProcessPoolExecutor(workers, context, _set_up, settings) as pool:
        futures = {pool.submit(_work_here, task): task for task in tasks}
        try:
            while futures:
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise DataError("a worker died, as processes do that the system takes for too large: try fewer") from None
        finally:
            if futures:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - before:
                    process.terminate()


_here: tuple[Mapping[str, Source], Way]


def _set_up(sources: Mapping[str, Source], way: Way, counter: Any, workers: int) -> None:
    global _here
    _here = sources, way
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if way.encoding is not None:
        with counter.get_lock():
            number, counter.value = counter.value, counter.value + 1
        _take_device(number, workers)


def _take_device(number: int, workers: int) -> None:
    """Of `workers` processes this one, the `number`th, computes on a GPU of its own, or on its share of the cores."""
    import torch  # slow to import, and needed by those that encode alone

    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def _end_with_parent() -> None:
    """Ends this process when the one that started it has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_here(task: Task) -> Done:
    return _work(task, _here[0][task.split], _here[1])


def _work(task: Task, source: Source, way: Way) -> Done:
    """Writes one shard, unless that was done before."""
    if (done := _noted(task)) is not None and (way.skip_damaged or not done.faults):
        return done
    samples = _Samples(task, source, way)
    try:
        shard = write_shard(task.dest, task.file, samples.whole())
    except _Unfinished:
        return Done(shard=None, faults=tuple(samples.faults))
    result = dataclasses.replace(samples.done(), shard=shard)
    put_bytes(task.dest, f"{task.file}{DONE_SUFFIX}", json.dumps(dataclasses.asdict(result)).encode())
    return result


def _noted(task: Task) -> Done | None:
    """What was written of a task when it was done before."""
    note = read_file(task.dest, f"{task.file}{DONE_SUFFIX}")
    if note is None:
        return None
    record: dict[str, Any] = budget.parsed(note, f"{task.file}{DONE_SUFFIX}")
    parts = {name: tuple(record[name]) for name in ("shape", "kinds", "labels")}
    faults = tuple(Fault(*fault) for fault in record.get("faults", ()))
    return Done(shard=Shard(**record["shard"]), dtype=record["dtype"], faults=faults, **parts)


class _Unfinished(Exception):
    """A shard is not to be written."""


class _Samples:
    """The members of a shard's samples, and what is to be known of all of them."""

    def __init__(self, task: Task, source: Source, way: Way) -> None:
        self._task, self._source, self._way = task, source, way
        self.faults: list[Fault] = []
        self._counts = np.zeros(len(source.classes), np.int64)
        self._kinds: dict[str, None] = {}
        self._facts: tuple[tuple[int, ...], str] | None = None
        self._stored: tuple[tuple[int, ...], str] | None = None

    def whole(self) -> Iterator[dict[str, Any]]:
        """The members of each sample that can be taken. Ends in `_Unfinished` if others must not be left out, after it
        has looked at all."""
        encoding = self._way.encoding
        for members in self._taken() if encoding is None else encoding.encoded(self._taken()):
            self._kinds |= dict.fromkeys(kind for kind in members if kind != "__key__")
            if encoding is not None and "npy" in members:
                array = npy(members["npy"])
                self._stored = array.shape, array.dtype.name
            yield members

    def _taken(self) -> Iterator[dict[str, Any]]:
        skip_damaged = self._way.skip_damaged
        for i, number in enumerate(self._task.numbers.tolist()):
            try:
                members = self._members(number, f"{self._task.first + i:09d}")
            except DataError as error:
                self.faults.append(Fault(str(error), isinstance(error, Damaged)))
                continue
            if not self.faults or skip_damaged:
                yield members
        if self._facts is None or any(not (skip_damaged and fault.damaged) for fault in self.faults):
            raise _Unfinished

    def done(self) -> Done:
        """What is known when all have been written."""
        assert self._facts is not None
        (shape, dtype), labels = self._stored or self._facts, tuple(self._counts.tolist())
        return Done(None, shape, dtype, tuple(self._kinds), labels, tuple(self.faults))

    def _members(self, number: int, key: str) -> dict[str, Any]:
        source = self._source
        raw = source.read(number)
        if source.classes and not 0 <= raw.label < len(source.classes):
            raise DataError(f"{raw.name} has label {raw.label}, expected 0 to {len(source.classes) - 1}")
        members, shape, dtype = self._way.preparation.members(raw, key, bool(source.classes))
        if self._way.encoding is not None:
            if dtype != "uint8" or (shape and shape[0] not in (1, 3)):
                raise DataError(f"{raw.name} is an array of {dtype} {shape}, and no picture that could be encoded")
            if not _caption(raw.name, members):
                raise Damaged(f"{raw.name} has no caption (NAME.txt, or a text in NAME.json or a table)")
        elif not members.keys().isdisjoint(CAPTION_MEMBERS):
            _caption(raw.name, members)
        facts = (tuple(shape), dtype)
        if self._facts not in (None, facts):
            assert self._facts is not None
            raise DataError(
                f"{raw.name} is {dtype} {facts[0]}, those before are {self._facts[1]} {self._facts[0]}: "
                + ("say --resolution" if dtype == self._facts[1] == "uint8" else "store all of them alike")
            )
        self._facts = facts
        if source.classes:
            self._counts[raw.label] += 1
        return members


def _caption(name: str, members: Mapping[str, bytes]) -> str | None:
    try:
        return caption_of(members)
    except ValueError as error:
        raise Damaged(f"{name}: {error}") from None
