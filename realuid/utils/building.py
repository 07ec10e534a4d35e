"""Building what a file describes within what its weights allow, and what a user describes as far as machines go."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from realuid.utils import budget

TENSORS = 4096
"""Tensors that anything may be built of; a published network has some hundreds."""
BYTES_A_TENSOR = 512
"""Bytes of weights that pay for one more: what a tensor takes in a file beside its numbers."""
MOST_TENSORS = 8_000
"""Tensors that a user's configuration may be built of, all networks together; SDXL and Qwen-Image have 2,000 each."""
SMALL = 4096
"""Entries of tensors that are not looked at more closely."""
FACTORIES = {
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye),
    *(torch.arange, torch.linspace, torch.logspace, torch.empty_strided),
}
SPACED = {torch.linspace, torch.logspace}
"""Those that are told their number of points. To ask torch for their shape imports a part of its compiler."""


class _Counting(TorchFunctionMode):
    """While it is active, each tensor that is made is paid for before it is.

    Args:
        left: how many may be made.
        what: that is built, for messages.
    """

    def __init__(self, left: int, what: str) -> None:
        super().__init__()
        self.left, self.what, self.spent = left, what, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            self._pay(func, args, kwargs)
        return func(*args, **kwargs)

    def _pay(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.left -= 1
        if len(args) == 1 and isinstance(args[0], tuple) and 0 <= (entries := math.prod(args[0])) <= SMALL:
            self.spent += 8 * entries  # at most; not worth the time that asking takes
            self._check()
            return
        if func in SPACED and isinstance(points := args[2] if len(args) > 2 else kwargs.get("steps"), int):
            self.spent += 8 * max(points, 0)
            self._check()
            return
        try:
            shape = func(*args, **{**kwargs, "device": "meta", "out": None, "pin_memory": False})
        except (RuntimeError, OverflowError, TypeError) as error:
            if "verflow" not in str(error) and not isinstance(error, RuntimeError):
                return  # wrong arguments: the call itself will say
            raise budget.Excess(f"{self.what} holds a tensor of an impossible size: {_first(error)}") from None
        self.spent += shape.nbytes if isinstance(shape, Tensor) else 0
        self._check()

    def _check(self) -> None:
        """Raises Excess if too much was spent."""
        raise NotImplementedError


class Building(_Counting):
    """While it is active, tensors are made only until they outgrow weights of `size` bytes; then Excess is raised, from
    within the constructor that asked for one more.

    Args:
        size: bytes of the weights for which something is built.
        what: that is built, for the message.
    """

    def __init__(self, size: int, what: str = "the network") -> None:
        super().__init__(max(TENSORS, size // BYTES_A_TENSOR), what)
        self.size = size

    def _check(self) -> None:
        budget.spend(self.spent, self.size, self.what)
        if self.left < 0:
            raise budget.Excess(f"{self.what} has more layers than weights of {budget.written(self.size)} fill")


class Assembling(_Counting):
    """While it is active, a user's networks are built as far as a machine can hold them; Excess is raised from within
    the constructor that goes beyond.

    Args:
        room: bytes that they may take; None where they get no memory.
    """

    def __init__(self, room: int | None) -> None:
        super().__init__(MOST_TENSORS, "the network")
        self.room = room

    def _check(self) -> None:
        if self.left < 0:
            raise budget.Excess(
                f"the networks have more than {MOST_TENSORS:,} weights and tables: fewer blocks, depth, multipliers or "
                "layers are needed"
            )
        if self.room is not None and self.spent > self.room:
            raise budget.Excess(
                f"the networks take more than the {budget.written(self.room)} of this machine's memory: a smaller "
                "width or depth, or other multipliers, are needed"
            )


def machine_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def stored(value: Any) -> int:
    """Bytes of the numbers in a nested state, each storage counted once."""
    held: dict[int, int] = {}
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Tensor):
            storage = here.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
        elif isinstance(here, dict):
            waiting += here.values()
        elif isinstance(here, (list, tuple)):
            waiting += here
    return sum(held.values())
