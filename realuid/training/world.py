"""The processes of a run: one alone, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from realuid.training.rendezvous import meet
from realuid.utils.errors import RunError

Result = TypeVar("Result")


class World:
    """This process among those of the run.

    Args:
        device: of this process's networks.
        rank: number of this process.
        size: number of processes; beyond one, torch's default process group is up and takes CPU tensors, too.
    """

    def __init__(self, device: torch.device, rank: int = 0, size: int = 1) -> None:
        self.device, self.rank, self.size = device, rank, size

    @classmethod
    def join(cls, device: str, timeout_s: float) -> World:
        """Takes this process's place among those that torchrun started; alone without torchrun.

        Args:
            device: `auto` (CUDA if there is any), `cpu`, `cuda`; of several processes each takes the CUDA device of its
                number on this machine.
            timeout_s: after how many seconds a collective operation counts as hung.

        Raises:
            RunError: if the device is not there.
            torch.distributed.DistError, RuntimeError: if another process does not come, or is lost meanwhile
                (`is_lost_peer`).
        """
        rank, size, local = (int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        own = device_named(device)
        if own.type == "cuda" and size > 1:
            own = device_named(f"cuda:{local}")
            torch.cuda.set_device(own)
        if size > 1 and not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
            timeout = timedelta(seconds=timeout_s)
            store, rank, size = meet(timeout)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        return cls(own, rank, size)

    @property
    def main(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def agree(self, number: int) -> int:
        """The largest of all processes' numbers; a step's only meeting beside the gradients', on the CPU."""
        if self.size == 1:
            return number
        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def gathered(self, values: Tensor) -> Tensor:
        """The values `[n]` of every process, `[size, n]`."""
        if self.size == 1:
            return values[None]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return torch.stack(parts)

    def on_main(self, work: Callable[[], Result]) -> Result:
        """What `work` gives in process 0, in every process; what it raises there is raised in every process."""
        if self.size == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.main:
            try:
                answer[0] = work()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, 0, device=torch.device("cpu"))
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Process 0 runs the block first, the others after it, so that they find the files it made."""
        if self.size > 1 and not self.main:
            dist.barrier()
        yield
        if self.size > 1 and self.main:
            dist.barrier()

    def group(self) -> dist.ProcessGroup | None:
        """A process group of its own for work beside the training (saving), on the CPU; all must ask for it."""
        return dist.new_group(backend="gloo") if self.size > 1 else None  # type: ignore[return-value]

    def leave(self) -> None:
        """Ends the process group."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error tells of another process that went away, and not of a fault in this one."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def device_named(name: str) -> torch.device:
    """The device that a binding names; `auto` is CUDA if there is any.

    Raises:
        RunError: if it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0]  # torch goes on with all of its backends
        raise RunError(f"Trainer.device = {name!r} is not available (auto, cpu, cuda or cuda:N): {reason}") from None
    return device
