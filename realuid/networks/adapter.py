"""Networks of other projects, used as they are: any torch module, and any model of diffusers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["DiffusersModel", "TorchModule"]

INPUTS = ("x", "time", "labels")


def _named(name: str) -> Any:
    """The thing that `package.module:Name` names. Raises ValueError if there is none."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{name!r} must name a class or function as 'package.module:Name'")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot find {name!r}: {error}") from None


class TorchModule(nn.Module):
    """Any torch module in our calling convention: `network(x [B, C, ...], time [B], labels [B])`.

    Args:
        factory: `package.module:Name` of a class, or of a function that returns the module.
        arguments: keyword arguments it is called with.
        call: what the module is called with, in order: `x`, `time`, `labels`, or `keyword=x` and so on. What is left
            out is not given to it.
        result: name of the attribute, or key, of the answer that is the tensor; None if the answer is the tensor.
        channels: how many channels of the answer to keep, the first ones; None for all.
        time_scale: the module is given the time multiplied by this.

    Raises:
        ValueError: if the factory cannot be found or makes no torch module, or `call` has an unknown input.
    """

    def __init__(
        self,
        *,
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        call: Sequence[str] = INPUTS,
        result: str | None = None,
        channels: int | None = None,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.call = [tuple(part.rpartition("=")[::2]) for part in call]
        if unknown := [value for _, value in self.call if value not in INPUTS]:
            raise ValueError(f"call has {unknown[0]!r}, not one of {', '.join(INPUTS)}")
        model = _named(factory)(**(arguments or {}))
        if not isinstance(model, nn.Module):
            raise ValueError(f"{factory} gives a {type(model).__name__}, not a torch module")
        self.model = model
        self.result, self.channels, self.time_scale = result, channels, time_scale

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        given = {"x": x, "time": self.time_scale * time, "labels": labels}
        ordered = [given[value] for name, value in self.call if not name]
        answer = self.model(*ordered, **{name: given[value] for name, value in self.call if name})
        if self.result is not None:
            answer = answer[self.result] if isinstance(answer, Mapping) else getattr(answer, self.result)
        return answer if self.channels is None else answer[:, : self.channels]


class DiffusersModel(nn.Module):
    """A model of diffusers from its folder: `network(x [B, C, H, W], time [B], labels [B]) -> [B, ..., H, W]`.

    Needs the package diffusers. For `UNet2DModel` and `DiTTransformer2DModel` see also `realuid.foreign.read`, which
    loads their weights into our own networks.

    Args:
        folder: the model's folder, with config.json and weights; not downloaded.
        classes: number of class labels; 0 for a model that is given none.
        channels: how many channels of the answer to keep, the first ones; None for all.
        time_scale: the model is given the time multiplied by this (1000 for flow-matching schedulers).

    Raises:
        ValueError: if the folder holds no model, or diffusers is not installed or does not know it.
    """

    def __init__(self, *, folder: str, classes: int = 0, channels: int | None = None, time_scale: float = 1.0) -> None:
        super().__init__()
        if not (Path(folder) / "config.json").is_file():
            raise ValueError(f"{folder} is no model folder of diffusers: it has no config.json")
        try:
            import diffusers
        except ImportError:
            raise ValueError("DiffusersModel needs `pip install realuid[diffusers]`") from None
        name = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["_class_name"]
        if not hasattr(diffusers, name):
            raise ValueError(f"diffusers {diffusers.__version__} has no {name}, which {folder} asks for")
        model = getattr(diffusers, name).from_pretrained(folder, low_cpu_mem_usage=False, torch_dtype=torch.float32)
        self.model: nn.Module = model
        self.classes, self.channels, self.time_scale = classes, channels, time_scale

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        given = {"class_labels": labels} if self.classes else {}
        answer = self.model(x, self.time_scale * time, **given, return_dict=False)[0]
        return answer if self.channels is None else answer[:, : self.channels]
