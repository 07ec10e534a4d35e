"""A CUDA device that is not there: tensors on it have shapes, strides and types, and no values.

torch's FakeTensorMode makes the tensors. What it refuses without a driver is made up for here: generators, autocast,
pinned memory, the device that autograd's engine asks for. Tensors of the CPU stay real ones, so that whatever a step
works out on the host has its values. What would make a host wait for a real device is noted, with its place.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
ROOT = str(Path(__file__).parents[2])
OWN = tuple(f"{ROOT}/{folder}/" for folder in ("realuid", "tests", "tools"))
"""Not all of the root: a virtual environment may lie in it."""
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.equal.default}
"""Give the host a value."""
PRODUCTS = {
    *(aten.convolution.default, aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default),
    *(aten._scaled_dot_product_flash_attention.default, aten._scaled_dot_product_efficient_attention.default),
}
COPIES = {aten._to_copy.default, aten.copy_.default}
WHOLE = {torch.bool: True, torch.float64: 1.0, torch.float32: 1.0, torch.bfloat16: 1.0, torch.float16: 1.0}
ASIDE = {"randn", "rand", "empty", "zeros", "ones", "full", "detach", "lift_fresh", "alias", "fill_"}


class HostWork(AssertionError):
    """A step did what makes a host wait, or mixed devices."""


@dataclass
class Watch:
    """What was asked of the device."""

    waits: list[str] = field(default_factory=list)
    """What a host waits for: values read, copies to the host, copies to the device from memory that is not pinned."""
    copies: list[str] = field(default_factory=list)
    """Copies to the device from pinned memory, for which it does not wait."""
    products: Counter = field(default_factory=Counter)
    """Matrix products and convolutions by type, whether TF32 is allowed, and, of images, whether channels are last."""
    trace: list[tuple] = field(default_factory=list)
    """Operations with the shapes of their tensors, in their order."""

    def convolved(self, dtype: torch.dtype) -> set[tuple[bool, bool]]:
        """Of the convolutions of images in a type: whether TF32 is allowed, whether channels are last."""
        return {(tf32, last) for kind, tf32, last in self.products if kind == dtype and last is not None}

    def check(self) -> None:
        """Raises HostWork if the host would wait."""
        if self.waits:
            raise HostWork("\n".join(f"{times} x {what}" for what, times in Counter(self.waits).items()))


class _Host(TorchDispatchMode):
    """Lets tensors of the CPU be real, those of the device fake."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        self.recording = False
        """Whether autograd meets a weight for the first time."""
        self.truth = False
        """Whether torch is told the truth, whoever asks."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return _device(args[0]) if self.truth else _told_to_torch(args[0], self.recording)
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        there = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        device = kwargs.get("device")
        if not there and (device is None or torch.device(device).type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if device is not None and torch.device(device).type == "meta":  # what the engine was told
            kwargs["device"] = CUDA
        args, kwargs = tree_map(_on_device, (args, kwargs))
        return self._watched(func, args, kwargs, tensors)

    def _watched(self, func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> Any:
        watch = self.watch
        if func in READS:
            watch.waits.append(f"a value is read {_place()}")
            return WHOLE.get(args[0].dtype, 1)
        wanted = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if wanted is not None and wanted.type == "cpu":
            watch.waits.append(f"a copy to the host {_place()}")
            with unset_fake_temporarily():
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        real = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        if func is aten.copy_.default and real and real[0] is args[0]:
            watch.waits.append(f"a copy to the host {_place()}")
            return args[0]
        uses = func in COPIES or "index" in str(func)
        if uses and any(tensor.ndim or func is aten._to_copy.default for tensor in real if not tensor.is_meta):
            quick = kwargs.get("non_blocking") and all(getattr(tensor, "pinned_here", False) for tensor in real)
            (watch.copies if quick else watch.waits).append(f"a copy to the device {_place()}")
        if func in PRODUCTS:
            watch.products[_arithmetic(tensors)] += 1
        if func.__name__.split(".")[0] not in ASIDE:
            shapes = [(tuple(t.shape), t.dtype) for t in tensors]
            watch.trace.append((str(func), *shapes))
        try:
            result = func(*args, **kwargs)
            if func is not aten.detach.default and any(tensor.requires_grad for tensor in tensors):
                for made in tree_leaves(result):
                    if isinstance(made, FakeTensor):
                        made.follows = True  # autograd is about to record it
            return result
        except RuntimeError as error:
            raise HostWork(f"{func}: {str(error).splitlines()[0]} {_place()}") from error


def _told_to_torch(tensor: Tensor, recording: bool) -> torch.device:
    """The device as torch's own C++ code is told it. Autograd records it for the result of every operation, and its
    engine has queues of work for the devices that are there; the meta device needs none. All others, such as autocast,
    are told the truth."""
    if not isinstance(tensor, FakeTensor) or tensor.fake_device.type != "cuda":
        return _device(tensor)
    differentiated = torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
    if tensor.requires_grad:
        fresh = tensor.is_leaf and not hasattr(tensor, "recorded")
    else:
        fresh = getattr(tensor, "follows", False)
    fresh = fresh and torch.is_grad_enabled()
    return torch.device("meta") if recording or differentiated or fresh else tensor.fake_device


def _device(tensor: Tensor) -> torch.device:
    return tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device


def _on_device(leaf: Any) -> Any:
    """Tensors that C++ made on the meta device, as it was told, go where they belong."""
    if isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor) and leaf.is_meta:
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=CUDA)
    return leaf


def _arithmetic(tensors: list[Tensor]) -> tuple:
    images = [t for t in tensors[:1] if t.ndim == 4 and t.shape[1] > 1 and t.shape[2] > 1]
    last = all(t.is_contiguous(memory_format=torch.channels_last) for t in images) if images else None
    return tensors[0].dtype, torch.backends.cuda.matmul.allow_tf32, last


def _place() -> str:
    """The innermost line of the project."""
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(OWN) and f.filename != __file__]
    return f"in {frames[-1].filename.removeprefix(ROOT)}:{frames[-1].lineno}: {frames[-1].line}"


class _Generator(torch.Generator):
    """The CPU's, that stands for the device's."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, "cpu")


def _pinned(tensor: Tensor, *_: Any) -> Tensor:
    copy = tensor.clone()
    copy.pinned_here = True  # type: ignore[attr-defined]
    return copy


class FakeCuda:
    """Within it, `torch.device("cuda")` takes tensors. One at a time."""

    def __enter__(self) -> FakeCuda:
        self._stack, self._host, self._to = ExitStack(), _Host(), nn.Module.to
        for owner, name, value in (
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *_: True),
            (torch, "Generator", _Generator),
            (Tensor, "pin_memory", _pinned),
            (nn.Module, "to", lambda module, *args, **kwargs: self._moved(module, *args, **kwargs)),
        ):
            self._stack.enter_context(patch.object(owner, name, value))
        self._stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        self._stack.enter_context(self._host)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """What is asked of the device within it."""
        before, self._host.watch = self._host.watch, Watch()
        try:
            yield self._host.watch
        finally:
            self._host.watch = before

    @contextmanager
    def truth(self) -> Iterator[None]:
        """Torch is told within it where tensors are, though a backward pass is on its way."""
        self._host.truth = True
        try:
            yield
        finally:
            self._host.truth = False

    def record(self, weight: Tensor) -> None:
        """Lets autograd meet a weight on the device."""
        if hasattr(weight, "recorded"):
            return
        trained = weight.requires_grad
        self._host.recording = True
        with torch.enable_grad():
            weight.requires_grad_(True)
            weight.recorded = weight.view_as(weight).grad_fn.next_functions[0][0]  # type: ignore[attr-defined,union-attr]
            weight.requires_grad_(trained)
        self._host.recording = False

    def _moved(self, module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        """`nn.Module.to`, by which weights stay shared between networks."""
        wanted = kwargs.get("device", args[0] if args else None)
        if not isinstance(wanted, str | torch.device) or torch.device(wanted).type != "cuda":
            return self._to(module, *args, **kwargs)
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = self._there(weight)
            for name, buffer in part._buffers.items():
                if buffer is not None and not isinstance(buffer, FakeTensor):
                    part._buffers[name] = torch.empty_like(buffer, device=CUDA)
        return module

    def _there(self, weight: Tensor) -> nn.Parameter:
        """A weight on the device, always the same one for the same weight."""
        if isinstance(weight, FakeTensor):
            return weight  # type: ignore[return-value]
        if not hasattr(weight, "there"):
            there = nn.Parameter(torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype, device=CUDA))
            self.record(there)
            weight.there = there  # type: ignore[attr-defined]
        return weight.there.requires_grad_(weight.requires_grad)  # type: ignore[attr-defined]
