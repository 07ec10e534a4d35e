"""Several processes with CUDA devices that are not there: torch's fake process group, whose collectives move nothing.

FSDP2 takes its streams and events from the device's module, which needs a driver; the CPU's serves. What autograd is
told of devices that are not there (`fake_cuda`) holds for FSDP2's own weights as well: those that it gathers are
recorded when they are made, and after the backward pass of a block torch is told the truth.

DistributedDataParallel has no test of this kind: its reducer asks the driver for the time in every step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.fsdp._fully_shard import _fsdp_param, _fsdp_param_group
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.training.fake_cuda import FakeCuda


class _Stream(torch.cpu.Stream):
    def record_event(self, event: Any = None) -> Any:
        return event or torch.cpu.Event()


class _Module:
    """`torch.cuda` without a driver."""

    Stream = _Stream

    def current_stream(self, device: Any = None) -> _Stream:
        return _Stream()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def current_device(self) -> int:
        return 0


class _AtTheEnd:
    """In place of the function by which FSDP2 sees that a block's backward pass is over, which autograd would record
    on the wrong device: the gradients of all blocks are reduced when that of the root is."""

    @staticmethod
    def apply(group: Any, *tensors: Any) -> Any:
        return tensors


@contextmanager
def fake_processes(size: int, cuda: FakeCuda) -> Iterator[None]:
    """This process as the first of `size`, as FSDP2 sees them."""
    init, post_backward = _fsdp_param.FSDPParam.init_unsharded_param, _fsdp_param_group.FSDPParamGroup.post_backward

    def recorded(self: Any) -> None:
        init(self)
        cuda.record(self._unsharded_param)

    def told_the_truth(self: Any, *unused: Any) -> None:
        with cuda.truth():
            post_backward(self, *unused)

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    with ExitStack() as stack:
        for module in [m for name, m in sys.modules.items() if name.startswith("torch.distributed.")]:
            if hasattr(module, "_get_device_handle"):
                stack.enter_context(patch.object(module, "_get_device_handle", lambda kind: _Module()))
        stack.enter_context(patch.object(_fsdp_param.FSDPParam, "init_unsharded_param", recorded))
        stack.enter_context(patch.object(_fsdp_param_group.FSDPParamGroup, "post_backward", told_the_truth))
        stack.enter_context(patch.object(_fsdp_param_group, "RegisterPostBackwardFunction", _AtTheEnd))
        try:
            yield
        finally:
            dist.destroy_process_group()
