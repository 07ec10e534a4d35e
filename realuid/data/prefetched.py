"""Reading ahead in processes of their own."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from realuid.data.dataset import Batch, Dataset, Wrapped
from realuid.errors import DataError

__all__ = ["Prefetched"]

START_METHODS = ("fork", "spawn", "forkserver")
Request = tuple[str, int, int]


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
        ValueError: a negative number of workers, `ahead` less than one, or another start method.
    """

    free_on_resume = frozenset({"workers", "ahead", "start_method"})

    def __init__(self, *, data: Dataset, workers: int = 4, ahead: int = 2, start_method: str = "fork") -> None:
        if workers < 0 or ahead < 1 or start_method not in START_METHODS:
            raise ValueError(
                f"Prefetched takes workers from 0, ahead from 1 and a start_method of {', '.join(START_METHODS)}, "
                f"got {workers}, {ahead} and {start_method!r}"
            )
        super().__init__(data)
        self.workers, self.ahead, self.start_method = workers, ahead, start_method

    def open(self, *, seed: int, device: torch.device) -> None:
        self._device, self._waited = device, 0.0
        self._damaged: dict[str, str] = {}
        self._last: Request | None = None
        self._next: Iterator[Request] = iter(())
        self._loader: DataLoader | None = None
        if not self.workers:
            self.data.open(seed=seed, device=device)
            return
        packed = pickle.dumps(self.data)  # before it holds anything of this process
        self.data.open(seed=seed, device=torch.device("cpu"))
        self._requests = _Requests()
        self._loader = DataLoader(
            _InWorker(packed, seed),
            batch_size=None,
            sampler=self._requests,
            num_workers=self.workers,
            prefetch_factor=self.ahead,
            persistent_workers=True,
            multiprocessing_context=self.start_method,
            pin_memory=device.type == "cuda",
        )
        self._stream: Iterator[Any] = iter(())
        self._expected: Request | None = None

    def batch(self, start: int, count: int) -> Batch:
        return self._asked(("batch", start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._asked(("examples", start, count))

    def damaged(self) -> dict[str, str]:
        return self._damaged if self.workers else self.data.damaged()

    def wait_s(self) -> float:
        waited, self._waited = self._waited, 0.0
        return waited

    def _asked(self, request: Request) -> Batch:
        began = time.perf_counter()
        try:
            if self._loader is None:
                return getattr(self.data, request[0])(*request[1:])
            if request != self._expected:
                self._requests.start(request, self._distance(request))
                self._stream = iter(self._loader)
            self._expected = self._last = None  # nothing is known if the next line raises
            batch, places, error = next(self._stream)
            self._last, self._expected = request, self._requests.after(request)
        finally:
            self._waited += time.perf_counter() - began
        if error is not None:
            self._expected = None
            raise DataError(error)
        self._merge(places)
        return Batch(self._moved(batch[0]), self._moved(batch[1]), None if batch[2] is None else self._moved(batch[2]))

    def _moved(self, part: Tensor) -> Tensor:
        return part.to(self._device, non_blocking=True)

    def _distance(self, request: Request) -> int:
        """How far apart requests are likely to be: as the last two were, or next to each other in all ranks."""
        kind, start, count = request
        if self._last is not None and self._last[0] == kind and self._last[2] == count and start > self._last[1]:
            return start - self._last[1]
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if distributed else 1
        return count if kind == "examples" else count * ranks

    def _merge(self, places: dict[str, str]) -> None:
        """Counts what the workers tolerated, each by itself, together."""
        for place, reason in places.items():
            if place not in self._damaged:
                if len(self._damaged) >= self.tolerate:
                    raise DataError(f"{place}: {reason} (one more than tolerate = {self.tolerate})")
                self._damaged[place] = reason


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

    def __getitem__(self, request: Request) -> tuple[tuple[Tensor | None, ...] | None, dict[str, str], str | None]:
        """The batch, damaged samples in it, and instead of both what ended the reading."""
        try:
            if self._data is None:
                data: Dataset = pickle.loads(self._packed)
                data.open(seed=self._seed, device=torch.device("cpu"))
                self._data = data
            self._data.damaged().clear()  # this process counts only what it is about to hand over
            batch = getattr(self._data, request[0])(*request[1:])
            return tuple(batch), dict(self._data.damaged()), None
        except DataError as error:
            return None, {}, str(error)
