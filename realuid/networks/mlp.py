"""A small multilayer perceptron for vectors and tiny images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, class_label
from realuid.networks.base import Network
from realuid.networks.embedding import sinusoidal
from realuid.networks.sizes import check_sizes

__all__ = ["MLP"]


class MLP(Network):
    """A residual perceptron for vectors or tiny images; see `Network` for how it is called.

    Args:
        shape: shape of one sample, (D,) for vectors or (C, H, W).
        width: hidden units.
        depth: hidden layers.
        classes: number of class labels; 0 for an unconditional network, which ignores them.
        time_scale: the time is multiplied by this before its sinusoidal embedding, whose highest frequency is 1 rad.
        out_multiplier: how many times the sample's entries to predict (`Target.out_multiplier`).
        in_multiplier: how many samples it is given: x_t, beside it x0 (if the model is conditioned on it) and noise.

    Raises:
        ValueError: if `depth` or `width` is less than one, `depth` beyond reason, or `width` is odd.
    """

    shape: tuple[int, ...]
    out_multiplier: int

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
        time_scale: float = 1.0,
        out_multiplier: int = 1,
        in_multiplier: int = 1,
    ) -> None:
        super().__init__()
        check_sizes({"shape": shape, "width": width, "depth": depth})
        if width % 2:
            raise ValueError(f"width must be even, got {width}")
        size = math.prod(shape)
        self.shape, self.width, self.time_scale = tuple(shape), width, time_scale
        self.classes, self.in_multiplier, self.out_multiplier = classes, in_multiplier, out_multiplier
        self.conditions = class_label(classes)
        self.time_embed = nn.Linear(width, width)
        self.label_emb = nn.Embedding(classes, width) if classes else None
        self.into = nn.Linear(in_multiplier * size, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.out = nn.Linear(width, out_multiplier * size)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        embedding = self.time_embed(sinusoidal(self.time_scale * time, self.width))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(condition[LABEL])
        h = self.into(x.flatten(1))
        for norm, layer in zip(self.norms, self.hidden, strict=True):
            h = h + layer(F.silu(norm(h) + embedding))
        return self.out(h).view(len(x), self.out_multiplier * self.shape[0], *self.shape[1:])
