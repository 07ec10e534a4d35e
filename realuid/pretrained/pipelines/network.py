"""The denoising network of a diffusers pipeline as a `Network`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from realuid.conditions import Condition
from realuid.networks.base import Network
from realuid.networks.sizes import check_sizes
from realuid.pretrained.pipelines.table import family_of
from realuid.utils.libraries import class_in
from realuid.utils.torch_types import TORCH_TYPES

__all__ = ["PipelineNetwork"]


class PipelineNetwork(Network):
    """The transformer or U-Net of a diffusers pipeline, called as the pipeline calls it. Needs the package diffusers.

    `network(x [B, C, H, W], time [B], condition) -> [B, C, H, W]` on latents. Packing, ids and pooled inputs follow
    from the class of the pipeline (`realuid.pretrained.pipelines.table`). The null condition, the embeddings of the
    empty prompt, is part of its state: reading a pipeline computes it once with the pipeline's own text encoders.

    Args:
        pipeline: class of the pipeline, such as `StableDiffusion3Pipeline`.
        config: arguments of the network's class in diffusers, as its `config.json` has them.
        shape: (C, H, W) of the latents.
        tokens: length of the field `text`; None for the pipeline's usual one.
        time_scale: the network is given the time multiplied by this: 1000 for most flows, 1 for the index of a table.
        guidance: the guidance scale that it is told, for a network that embeds it; None for others.
        dtype: of the weights, such as `float32` or `bfloat16`.

    Raises:
        ValueError: if there is no such pipeline or type, diffusers is not installed, the configuration does not suit
            the class or the shape, or `guidance` is missing or without use.
    """

    null_remedy = "its guidance is embedded, or there is none: bind Teacher.model without GuidedModel"

    def __init__(
        self,
        *,
        pipeline: str,
        config: Mapping[str, Any],
        shape: tuple[int, int, int],
        tokens: int | None = None,
        time_scale: float = 1.0,
        guidance: float | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        check_sizes({"shape": shape})
        self.family = family_of(pipeline)
        self.pipeline, self.time_scale, self.guidance, self.dtype = pipeline, time_scale, guidance, dtype
        self.tokens = self.family.tokens if tokens is None else tokens
        kind = TORCH_TYPES.get(dtype)
        if kind is None or not kind.is_floating_point:
            raise ValueError(f"dtype = {dtype!r} is no floating-point type of torch")
        self.model = _cast(built(self.family.model, config), kind)
        full = dict(self.model.config)
        self.shape = tuple(shape)
        if len(shape) != 3 or shape[0] != self.family.channels(full):
            raise ValueError(
                f"shape = {self.shape}, but {pipeline} has latents of {self.family.channels(full)} channels"
            )
        if (guidance is not None) != self.family.embeds_guidance(full):
            told = "needs a guidance scale, such as 3.5" if guidance is None else "is told no guidance scale"
            raise ValueError(f"guidance = {guidance}, but this {self.family.model} {told}")
        self.conditions = self.family.fields(full, self.tokens)
        if self.family.guided:
            for field in self.conditions:
                empty = torch.zeros(field.sizes, dtype=field.torch_dtype)
                self.register_buffer(f"null_{field.name}", empty.to(kind) if empty.is_floating_point() else empty)

    @property
    def has_null(self) -> bool:
        return self.family.guided

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        assert self.shape is not None
        if len(shape) != 3 or shape[0] != self.shape[0]:
            return super().unfit(shape)
        return self.family.unfit(dict(self.model.config), (shape[1], shape[2]))

    def null(self, condition: Condition) -> Condition:
        if not self.has_null:
            return super().null(condition)
        read = {field.name for field in self.conditions}
        return Condition(
            {
                name: self.get_buffer(f"null_{name}").to(tensor.dtype).expand_as(tensor) if name in read else tensor
                for name, tensor in condition.items()
            }
        )

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        kind = TORCH_TYPES[self.dtype]
        told = condition.only(field.name for field in self.conditions)
        told = told.map(lambda tensor: tensor.to(kind) if tensor.is_floating_point() else tensor)
        # The time stays in float32: it reaches 1000, of which bfloat16 would keep two digits.
        time = self.time_scale * time.float()
        guidance = None if self.guidance is None else torch.full_like(time, self.guidance)
        return self.family.answer(self.model, x.to(kind), time, told, guidance)


def _cast(model: Any, kind: torch.dtype) -> Any:
    """A model of diffusers in another precision, but for the parts that its class keeps in float32."""
    if kind != torch.float32:
        nn.Module.to(model, kind)
        kept = tuple(model._keep_in_fp32_modules or ())
        for name, module in model.named_modules():
            if any(part in kept for part in name.split(".")):
                nn.Module.to(module, torch.float32)
    return model


def built(name: str, config: Mapping[str, Any]) -> Any:
    """A model of diffusers, freshly initialised, from arguments of its constructor.

    Raises:
        ValueError: if diffusers is not installed or lacks the class, or the class does not take the arguments.
    """
    try:
        import diffusers
    except ImportError:
        raise ValueError("PipelineNetwork needs `pip install realuid[pipelines]`") from None
    kind = class_in(diffusers, name, nn.Module)
    if kind is None:
        raise ValueError(f"diffusers {diffusers.__version__} has no {name}")
    known = inspect.signature(kind.__init__).parameters
    if unknown := [argument for argument in config if argument not in known]:
        raise ValueError(f"{name} of diffusers {diffusers.__version__} has no argument {unknown[0]}")
    return kind(**config).eval()
