"""What benchmarks measure with: seconds, operations, memory, the peak of a device."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from realuid.training.compute import Arithmetic


@dataclass(frozen=True)
class Spent:
    """What some work took."""

    wall: float
    """Seconds by the clock."""
    cpu: float
    """Seconds of this process's processors, which other work on the machine disturbs less."""
    bytes: int | None
    """Most memory in use on the device beyond what was before; None for the CPU."""


def spent(work: Callable[[], Any], device: torch.device) -> Spent:
    """Does some work, until the device is done."""
    before = _memory(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    times = time.perf_counter() - wall, time.process_time() - cpu
    return Spent(*times, None if before is None else torch.cuda.max_memory_allocated(device) - before)


def _memory(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


class Counted:
    """Floating-point operations of matrix products and convolutions, and bytes of tensors at most alive at once of
    those made meanwhile; code is not run compiled."""

    def __enter__(self) -> Counted:
        self._alive, self._before = _Alive(), 0
        self._counter = FlopCounterMode(display=False)
        self._stack = ExitStack()
        for part in (torch.compiler.set_stance("force_eager"), self._counter, self._alive):
            self._stack.enter_context(part)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @property
    def operations(self) -> int:
        return self._counter.get_total_flops()

    def take_bytes(self) -> int:
        """The most bytes beyond those at the start, or when this was asked last."""
        alive = self._alive
        most, self._before, alive.most = alive.most - self._before, alive.now, alive.now
        return most


class _Alive(TorchDispatchMode):
    """Counts the bytes of storages from their first sight to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in (*before, *self._known):
                self._made(value.untyped_storage())
        return result

    def _made(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        self._known.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def peak(arithmetic: Arithmetic, seconds: float = 1.0) -> float:
    """Operations a second that the device reaches in this precision: the better of a matrix product and a convolution
    of 256 channels at 32x32."""
    device, cuda = arithmetic.device, arithmetic.device.type == "cuda"
    dtype = torch.bfloat16 if arithmetic.precision == "bfloat16" else torch.float32
    size, batch = (8192, 256) if cuda else (512, 1)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    x = torch.randn(batch, 256, 32, 32, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with arithmetic.update(), torch.no_grad():
        return max(_rate(lambda: a @ b, device, seconds), _rate(lambda: F.conv2d(x, w, padding=1), device, seconds))


def _rate(work: Callable[[], Any], device: torch.device, seconds: float) -> float:
    with Counted() as counted:
        work()
    once = spent(work, device).wall
    times = max(1, round(seconds / max(once, 1e-6)))
    return counted.operations * times / spent(lambda: [work() for _ in range(times)], device).wall
