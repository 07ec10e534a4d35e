"""A small multilayer perceptron for vectors and tiny images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from realuid.networks.embedding import sinusoidal

__all__ = ["MLP"]


class MLP(nn.Module):
    """Residual perceptron: `network(x [B, inputs * C, ...], time [B], labels [B]) -> [B, height * C, ...]`.

    Args:
        shape: shape of one sample, (D,) for vectors or (C, H, W).
        width: hidden units.
        depth: hidden layers.
        classes: number of class labels; 0 for an unconditional network, which ignores them.
        time_scale: the time is multiplied by this before its sinusoidal embedding, whose highest frequency is 1 rad.
        height: how many times the sample's entries to predict (`Target.height`).
        inputs: how many samples it is given: x_t, and beside it x0 (a model conditioned on it) and a student's noise.

    Raises:
        ValueError: if `depth` is less than one or `width` is odd.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
        time_scale: float = 1.0,
        height: int = 1,
        inputs: int = 1,
    ) -> None:
        super().__init__()
        if depth < 1 or width % 2:
            raise ValueError(f"depth must be at least 1 and width even, got {depth} and {width}")
        size = math.prod(shape)
        self.shape, self.width, self.time_scale = tuple(shape), width, time_scale
        self.classes, self.inputs, self.height = classes, inputs, height
        self.time_embed = nn.Linear(width, width)
        self.label_emb = nn.Embedding(classes, width) if classes else None
        self.into = nn.Linear(inputs * size, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.out = nn.Linear(width, height * size)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        embedding = self.time_embed(sinusoidal(self.time_scale * time, self.width))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(labels)
        h = self.into(x.flatten(1))
        for norm, layer in zip(self.norms, self.hidden, strict=True):
            h = h + layer(F.silu(norm(h) + embedding))
        return self.out(h).view(len(x), self.height * self.shape[0], *self.shape[1:])
