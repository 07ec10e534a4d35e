"""Networks without weights, for those who only want to know their shapes."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWING = {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.zero_, torch.Tensor.fill_}


class Unweighted(TorchFunctionMode):
    """While it is active, nothing fills a parameter: modules are built at once, with whatever their memory holds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWING and isinstance(args[0], torch.nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))
