"""Reading ahead in processes of their own."""

from __future__ import annotations

import gc
import pickle
import time
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from realuid.conditions import Condition
from realuid.data.dataset import Batch, Dataset, Wrapped
from realuid.utils.errors import DataError
from realuid.utils.limits import check_at_most

__all__ = ["Prefetched"]

START_METHODS = ("fork", "spawn", "forkserver")
Request = tuple[str, int, int]
Packed = tuple[Tensor | None, dict[str, Tensor], Tensor | None]
"""What a worker sends, in types that DataLoader pins: images, the condition's tensors, sources."""


class Prefetched(Wrapped):
    """Another data set, read by worker processes ahead of its use, with all its wrappers.

    What is read ahead follows the last two requests: the same count at the same distance again. Any other request is
    right, too, and starts anew. Each worker opens the data set for itself: wrap what streams, not what is in memory.

    Args:
        data: the data set, `Streaming` or a wrapper around it.
        workers: processes; 0 reads in this one, when asked.
        ahead: batches each worker keeps ready.
        start_method: `fork`, `spawn` or `forkserver`. Fork starts at once; the others bear libraries with threads.

    Raises:
        ValueError: a negative number of workers, `ahead` less than one, more than 1,024 of them, or another start
            method.
    """

    free_on_resume = frozenset({"workers", "ahead", "start_method"})

    def __init__(self, *, data: Dataset, workers: int = 4, ahead: int = 2, start_method: str = "fork") -> None:
        if workers < 0 or ahead < 1 or start_method not in START_METHODS:
            raise ValueError(
                f"Prefetched takes workers from 0, ahead from 1 and a start_method of {', '.join(START_METHODS)}, "
                f"got {workers}, {ahead} and {start_method!r}"
            )
        check_at_most(1024, workers=workers, ahead=ahead)
        super().__init__(data)
        self.workers, self.ahead, self.start_method = workers, ahead, start_method
        self._ending: weakref.finalize | None = None

    def open(self, *, seed: int, device: torch.device) -> None:
        self._device, self._waited = device, 0.0
        self._damaged: dict[str, str] = {}
        self.pinned = device.type == "cuda"
        packed = b""
        if self.workers:
            self.data.missing()  # compares encoders: their checksums go along, or else each worker computes them
            packed = pickle.dumps(self.data)  # before it holds anything of this process
        self.data.open(seed=seed, device=torch.device("cpu") if self.workers else device)
        # Samples and conditions are asked for in turn, each in an order of its own: each has workers of its own.
        aheads = [
            _Ahead(self.workers, self.ahead, self.start_method, self.pinned, packed=packed, seed=seed) for _ in range(2)
        ]
        self._samples, self._conditions = aheads
        if self._ending is not None:
            self._ending()  # of the workers of an earlier opening
        self._ending = weakref.finalize(self, _end, aheads)

    def batch(self, start: int, count: int) -> Batch:
        return self._batch(("batch", start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._batch(("examples", start, count))

    def condition_batch(self, start: int, count: int) -> Condition:
        return self._condition(("condition_batch", start, count))

    def condition_examples(self, start: int, count: int) -> Condition:
        return self._condition(("condition_examples", start, count))

    def _batch(self, request: Request) -> Batch:
        images, fields, sources = self._asked(self._samples, request)
        assert images is not None
        return Batch(images, Condition(fields), sources).to(self._device)

    def _condition(self, request: Request) -> Condition:
        _, fields, _ = self._asked(self._conditions, request)
        return Condition(fields).to(self._device, non_blocking=True)

    def damaged(self) -> dict[str, str]:
        return self._damaged if self.workers else self.data.damaged()

    def wait_s(self) -> float:
        waited, self._waited = self._waited, 0.0
        return waited

    def worker_processes(self) -> list[int]:
        """Process numbers of the workers at work."""
        aheads = [ahead for ahead in (self._samples, self._conditions) if ahead.loader is not None]
        return [process.pid for ahead in aheads for process in ahead.loader._iterator._workers]  # type: ignore[union-attr]

    def _asked(self, ahead: _Ahead, request: Request) -> Packed:
        began = time.perf_counter()
        try:
            if not self.workers:
                return _read(self.data, *request)
            answer, places, error = ahead.ask(request)
        finally:
            self._waited += time.perf_counter() - began
        if error is not None or answer is None:
            ahead.forget()
            raise DataError(error)
        self._merge(places)
        return answer

    def _merge(self, places: dict[str, str]) -> None:
        """Counts what the workers tolerated, each by itself, together."""
        for place, reason in places.items():
            if place not in self._damaged:
                if len(self._damaged) >= self.tolerate:
                    raise DataError(f"{place}: {reason} (one more than tolerate = {self.tolerate})")
                self._damaged[place] = reason


class _Ahead:
    """Workers that read what is likely to be asked for next. They start with the first request."""

    def __init__(self, workers: int, ahead: int, start_method: str, pinned: bool, *, packed: bytes, seed: int) -> None:
        self._workers, self._ahead, self._start_method, self._pinned = workers, ahead, start_method, pinned
        self._packed, self._seed = packed, seed
        self._requests = _Requests()
        self.loader: DataLoader | None = None
        self._stream: Iterator[Any] = iter(())
        self._expected: Request | None = None
        self._last: Request | None = None

    def ask(self, request: Request) -> tuple[Packed | None, dict[str, str], str | None]:
        """What `_InWorker` answers."""
        if self.loader is None:
            self.loader = DataLoader(
                _InWorker(self._packed, self._seed),
                batch_size=None,
                sampler=self._requests,
                num_workers=self._workers,
                prefetch_factor=self._ahead,
                persistent_workers=True,
                multiprocessing_context=self._start_method,
                pin_memory=self._pinned,
                worker_init_fn=_leave_inherited,
            )
        if request != self._expected:
            self._requests.start(request, self._distance(request))
            self._stream = iter(self.loader)
        self._expected = self._last = None  # nothing is known if the next line raises
        answer = next(self._stream)
        self._last, self._expected = request, self._requests.after(request)
        return answer

    def forget(self) -> None:
        """The next request starts anew."""
        self._expected = None

    def _distance(self, request: Request) -> int:
        """How far apart requests are likely to be: as the last two were, or next to each other in all ranks."""
        kind, start, count = request
        if self._last is not None and self._last[0] == kind and self._last[2] == count and start > self._last[1]:
            return start - self._last[1]
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if distributed else 1
        return count if kind in ("examples", "condition_examples") else count * ranks


def _end(aheads: list[_Ahead]) -> None:
    """Ends the workers of a data set that nobody holds any longer.

    A DataLoader that is found in a cycle of garbage loses its queues before it can use them to tell the workers, and
    waits five seconds for each. These are never found there: whoever calls this function holds them.
    """
    for ahead in aheads:
        ahead.loader, ahead._stream = None, iter(())


def _leave_inherited(worker: int) -> None:
    """A forked worker inherits other data sets. One of them may be garbage: collected in the worker, it would tell its
    own workers to end, which are not the worker's to end, and wait for them."""
    gc.freeze()


class _Requests:
    """What the workers are to read, in its order."""

    def __init__(self) -> None:
        self._first: Request = ("batch", 0, 0)
        self._distance = 0

    def start(self, first: Request, distance: int) -> None:
        self._first, self._distance = first, distance

    def after(self, request: Request) -> Request:
        kind, start, count = request
        return kind, start + self._distance, count

    def __iter__(self) -> Iterator[Request]:
        request = self._first
        while True:
            yield request
            request = self.after(request)


class _InWorker(TorchDataset):
    """The data set as a worker sees it."""

    def __init__(self, packed: bytes, seed: int) -> None:
        self._packed, self._seed = packed, seed
        self._data: Dataset | None = None

    def __getitem__(self, request: Request) -> tuple[Packed | None, dict[str, str], str | None]:
        """What was read, damaged samples in it, and instead of both what ended the reading."""
        try:
            if self._data is None:
                data: Dataset = pickle.loads(self._packed)
                data.open(seed=self._seed, device=torch.device("cpu"))
                self._data = data
            self._data.damaged().clear()  # this process counts only what it is about to hand over
            return _read(self._data, *request), dict(self._data.damaged()), None
        except DataError as error:
            return None, {}, str(error)


def _read(data: Dataset, kind: str, start: int, count: int) -> Packed:
    """The answer to a request."""
    if kind == "condition_batch":
        return None, dict(data.condition_batch(start, count)), None
    if kind == "condition_examples":
        return None, dict(data.condition_examples(start, count)), None
    batch = data.batch(start, count) if kind == "batch" else data.examples(start, count)
    return batch.images, dict(batch.condition), batch.sources
