"""Networks of other projects, used as they are: any torch module, and any model of diffusers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, Field, class_label
from realuid.networks.base import Network
from realuid.utils import budget
from realuid.utils.building import Building
from realuid.utils.libraries import class_in
from realuid.utils.torch_files import check_folder

__all__ = ["DiffusersModel", "TorchModule"]

INPUTS = ("x", "time")
"""What a module may be called with beside the fields of its condition."""


def _named(name: str) -> Any:
    """The thing that `package.module:Name` names. Raises ValueError if there is none."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{name!r} must name a class or function as 'package.module:Name'")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot find {name!r}: {error}") from None


class TorchModule(Network):
    """Any torch module in our calling convention: `network(x [B, C, ...], time [B], condition)`.

    Args:
        factory: `package.module:Name` of a class, or of a function that returns the module.
        arguments: keyword arguments it is called with.
        call: what the module is called with, in order: `x`, `time`, or a field of the condition such as `label`; also
            by keyword, `y=label`. What is left out is not given to it. None for x, time and all fields in turn.
        classes: number of class labels; 0 for a module that is given none.
        conditions: fields of the condition that it reads beside class labels.
        result: name of the attribute, or key, of the answer that is the tensor; None if the answer is the tensor.
        channels: how many channels of the answer to keep, the first ones; None for all.
        time_scale: the module is given the time multiplied by this.

    Raises:
        ValueError: if the factory cannot be found or makes no torch module, or `call` has an unknown input.
    """

    names_code = frozenset({"factory"})

    def __init__(
        self,
        *,
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        call: Sequence[str] | None = None,
        classes: int = 0,
        conditions: Sequence[Field] = (),
        result: str | None = None,
        channels: int | None = None,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.classes, self.conditions = classes, (*class_label(classes), *conditions)
        known = (*INPUTS, *(field.name for field in self.conditions))
        self.call = [tuple(part.rpartition("=")[::2]) for part in call or known]
        if unknown := [value for _, value in self.call if value not in known]:
            remedy = "; bind TorchModule.classes" if unknown[0] == LABEL else ""
            raise ValueError(f"call has {unknown[0]!r}, not one of {', '.join(known)}{remedy}")
        model = _named(factory)(**(arguments or {}))
        if not isinstance(model, nn.Module):
            raise ValueError(f"{factory} gives a {type(model).__name__}, not a torch module")
        self.model = model
        self.result, self.channels, self.time_scale = result, channels, time_scale

    def _own_types(self, condition: Condition) -> dict[str, Tensor]:
        """The fields that this network states, floating-point ones in its own type: sets may keep them in half."""
        floats = {field.name: field.torch_dtype for field in self.conditions if field.torch_dtype.is_floating_point}
        return {name: value.to(floats.get(name, value.dtype)) for name, value in condition.items()}

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        given = {**self._own_types(condition), "x": x, "time": self.time_scale * time}
        ordered = [given[value] for name, value in self.call if not name]
        answer = self.model(*ordered, **{name: given[value] for name, value in self.call if name})
        if self.result is not None:
            answer = answer[self.result] if isinstance(answer, Mapping) else getattr(answer, self.result)
        return answer if self.channels is None else answer[:, : self.channels]


class DiffusersModel(Network):
    """A model of diffusers from its folder: `network(x [B, C, H, W], time [B], condition) -> [B, ..., H, W]`.

    Needs the package diffusers. For `UNet2DModel` and `DiTTransformer2DModel` see also `realuid.pretrained.read`, which
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
        size = check_folder(Path(folder))
        name = budget.parsed((Path(folder) / "config.json").read_bytes(), f"{folder}/config.json")["_class_name"]
        kind = class_in(diffusers, name, diffusers.ModelMixin)
        if kind is None:  # a pipeline may load anything
            raise ValueError(f"diffusers {diffusers.__version__} has no model {name}, which {folder} asks for")
        with Building(size):
            self.model: nn.Module = kind.from_pretrained(folder, low_cpu_mem_usage=False, torch_dtype=torch.float32)
        self.conditions, self.channels, self.time_scale = class_label(classes), channels, time_scale

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        given = {"class_labels": condition[LABEL]} if self.conditions else {}
        answer = self.model(x, self.time_scale * time, **given, return_dict=False)[0]
        return answer if self.channels is None else answer[:, : self.channels]
