"""Networks without weights, for those who only want to know their shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

DRAWING = {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.zero_, torch.Tensor.fill_} | {
    function for name, function in vars(nn.init).items() if re.fullmatch(r"[a-z]\w*_", name)
}
"""Those of `torch.nn.init` as well: inside one of them nothing is seen of what it calls."""

FILLED = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}
LARGE = 64 << 20
"""Bytes of the largest tensor that may be a buffer."""


class no_init_weights(TorchFunctionMode):
    """While it is active, nothing fills a parameter: modules are built at once, with whatever their memory holds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DRAWING and isinstance(filled := args[0] if args else kwargs["tensor"], torch.nn.Parameter):
            return filled
        return func(*args, **kwargs)


class _NoMemory(TorchFunctionMode):
    """While it is active, tensors that are larger than any buffer have shapes and no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        small = len(args) == 1 and isinstance(args[0], tuple) and math.prod(args[0]) * 16 < LARGE
        if func in FILLED and not small and kwargs.get("device") is None and "out" not in kwargs:
            shape = func(*args, **{**kwargs, "device": "meta"})
            if shape.nbytes > LARGE:
                return shape
        return func(*args, **kwargs)


@contextmanager
def no_weights() -> Iterator[None]:
    """Inside, modules are built with parameters that have shapes and no memory (torch's meta device), so that networks
    larger than the memory can be assembled. Buffers and all other tensors are real."""
    register = nn.Module.register_parameter

    def registered(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        if param is not None and param.device.type != "meta":
            self._parameters[name] = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)

    with patch.object(nn.Module, "register_parameter", registered), _NoMemory(), no_init_weights():
        yield
