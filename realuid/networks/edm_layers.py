"""Layers of the U-Nets of EDM (Karras et al. 2206.00364, appendix F.2), with the names of its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from realuid.networks.edm_layout import Mode


def norm(channels: int, eps: float) -> nn.GroupNorm:
    """Group norm with at least four channels a group and at most 32 groups."""
    groups = min(32, channels // 4)
    if not groups or channels % groups:
        raise ValueError(f"{channels} channels do not divide into {groups} groups of at least four")
    return nn.GroupNorm(groups, channels, eps=eps)


def one_hot(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """Labels `[B]` as rows `[B, classes]`; the label `classes`, that of no class, is a row of zeros."""
    return F.one_hot(labels, classes + 1)[:, :classes].to(like.dtype)


def draw(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Xavier-uniform weights times `gain`, no bias."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Linear(nn.Linear):
    """A linear layer that starts as xavier-uniform times `gain`; None for torch's initialisation."""

    def __init__(self, ins: int, outs: int, *, gain: float | None) -> None:
        self.gain = gain
        super().__init__(ins, outs)

    def reset_parameters(self) -> None:
        super().reset_parameters() if self.gain is None else draw(self, self.gain)


class GeometricWaves(nn.Module):
    """Cosines and sines of times `[B]` at geometric frequencies from 1 to 1/10000: `[B, width]`.

    Args:
        width: even.
        endpoint: whether the last frequency is 1/10000 itself.
        sines_first: their order.
    """

    def __init__(self, width: int, *, endpoint: bool, sines_first: bool) -> None:
        super().__init__()
        self.count, self.endpoint, self.sines_first = width // 2, endpoint, sines_first

    def forward(self, time: Tensor) -> Tensor:
        exponents = torch.arange(self.count, dtype=torch.float32, device=time.device) / (self.count - self.endpoint)
        return _waves(time, (1 / 10_000) ** exponents, self.sines_first)


class RandomWaves(nn.Module):
    """Sines and cosines of times `[B]` at random frequencies, N(0, 16^2), which belong to the weights: `[B, width]`."""

    freqs: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.empty(width // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.freqs, std=16)

    def forward(self, time: Tensor) -> Tensor:
        return _waves(time, 2 * math.pi * self.freqs, sines_first=True)


def _waves(time: Tensor, frequencies: Tensor, sines_first: bool) -> Tensor:
    angles = torch.outer(time, frequencies.to(time.dtype))
    return torch.cat([angles.sin(), angles.cos()] if sines_first else [angles.cos(), angles.sin()], dim=1)


class Resample(nn.Module):
    """Half or twice the height and width by a separable filter."""

    kernel: Tensor

    def __init__(self, *, mode: Mode, taps: Sequence[float], pad: bool = True) -> None:
        super().__init__()
        self.mode, self.padding = mode, (len(taps) - 1) // 2 if pad else 0
        row = torch.tensor(taps, dtype=torch.float32)
        self.register_buffer("kernel", torch.outer(row, row)[None, None] / row.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, -1, -1, -1)
        if self.mode == "down":
            return F.conv2d(x, kernel, stride=2, padding=self.padding, groups=channels)
        return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=self.padding, groups=channels)


class Conv(nn.Conv2d):
    """A convolution that keeps the size, after resampling; starts like `Linear`."""

    def __init__(
        self, ins: int, outs: int, kernel: int, *, gain: float | None, mode: Mode = "keep", taps: Sequence[float] = ()
    ) -> None:
        self.gain = gain
        super().__init__(ins, outs, kernel, padding=kernel // 2)
        self.resample = nn.Identity() if mode == "keep" else Resample(mode=mode, taps=taps)

    def reset_parameters(self) -> None:
        super().reset_parameters() if self.gain is None else draw(self, self.gain)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        return super().forward(self.resample(x))


class ConvDown(nn.Conv2d):
    """A 3x3 convolution, then half the size; the image is padded once, for both filters."""

    def __init__(self, ins: int, outs: int, *, taps: Sequence[float]) -> None:
        super().__init__(ins, outs, 3, padding=1 + (len(taps) - 1) // 2)
        self.resample = Resample(mode="down", taps=taps, pad=False)

    def reset_parameters(self) -> None:
        draw(self, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(super().forward(x))


class Block(nn.Module):
    """Residual block, resampled where asked, followed by self-attention where it has heads.

    Args:
        ins: channels of the input.
        outs: channels of the output.
        embedding: width of the embedding.
        mode: whether height and width are kept, doubled or halved.
        taps: filter of the resampling.
        heads: attention heads; 0 for none.
        dropout: probability before the second convolution.
        scale_shift: whether the embedding scales and shifts the normalised features, or is added before the norm.
        project: whether a resampled skip connection of equal channels still has a 1x1 convolution.
        residual: factor after each sum (sqrt(1/2) keeps the variance).
        eps: of the norms.
        gains: of layers in general, of those that end a branch, and of queries, keys and values; see `Linear`.
    """

    def __init__(
        self,
        ins: int,
        outs: int,
        *,
        embedding: int,
        mode: Mode = "keep",
        taps: Sequence[float],
        heads: int,
        dropout: float,
        scale_shift: bool,
        project: bool,
        residual: float,
        eps: float,
        gains: tuple[float | None, float | None, float | None],
    ) -> None:
        super().__init__()
        usual, last, attention = gains
        self.heads, self.scale_shift, self.residual = heads, scale_shift, residual
        self.norm0 = norm(ins, eps)
        self.conv0 = Conv(ins, outs, 3, gain=usual, mode=mode, taps=taps)
        self.affine = Linear(embedding, outs * (1 + scale_shift), gain=usual)
        self.norm1 = norm(outs, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = Conv(outs, outs, 3, gain=last)
        self.skip: nn.Module = nn.Identity()
        if ins != outs or (project and mode != "keep"):
            self.skip = Conv(ins, outs, 1, gain=usual, mode=mode, taps=taps)
        elif mode != "keep":
            self.skip = Resample(mode=mode, taps=taps)
        if heads:
            if outs % heads:
                raise ValueError(f"{outs} channels do not divide into {heads} heads")
            self.norm2 = norm(outs, eps)
            self.qkv = Conv(outs, 3 * outs, 1, gain=attention)
            self.proj = Conv(outs, outs, 1, gain=last)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x)))
        e = self.affine(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm1(h) * (1 + scale) + shift
        else:
            h = self.norm1(h + e)
        h = self.conv1(self.dropout(F.silu(h)))
        x = (self.skip(x) + h) * self.residual
        return (x + self.proj(self._attended(x))) * self.residual if self.heads else x

    def _attended(self, x: Tensor) -> Tensor:
        """Heads of whole channels; in each, queries, keys and values of one channel lie side by side."""
        qkv = self.qkv(self.norm2(x))
        q, k, v = rearrange(qkv, "b (n c three) h w -> three b n (h w) c", three=3, n=self.heads).contiguous()
        h = F.scaled_dot_product_attention(q, k, v)
        return rearrange(h, "b n (h w) c -> b (n c) h w", h=x.shape[2])
