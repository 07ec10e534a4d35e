"""Layers of ADM's U-Net, with guided-diffusion's module names."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from realuid.networks.cross_attention import CrossAttention
from realuid.networks.zero import ZeroConv1d, ZeroConv2d

GROUPS = 32


def norm(channels: int, group_channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels // group_channels), channels, eps=eps)


class ResBlock(nn.Module):
    """GN, SiLU, conv, + embedding, GN, SiLU, dropout, conv, + input."""

    def __init__(
        self,
        *,
        channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        scale_shift: bool,
        group_channels: int,
        eps: float = 1e-5,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.in_layers = nn.Sequential(
            norm(channels, group_channels, eps), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels * (1 + scale_shift)))
        self.out_layers = nn.Sequential(
            norm(out_channels, group_channels, eps),
            nn.SiLU(),
            nn.Dropout(dropout),
            ZeroConv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.resample is None:
            h = self.in_layers(x)
        else:
            before, after = self.in_layers[:-1], self.in_layers[-1]
            h, x = after(self.resample(before(x))), self.resample(x)
        e = self.emb_layers(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            norm, *rest = self.out_layers
            h = norm(h) * (1 + scale) + shift
            for layer in rest:
                h = layer(h)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over the pixels, heads of `head_channels` channels; queries, keys and values lie per head."""

    def __init__(
        self, *, channels: int, head_channels: int, group_channels: int, heads: int | None = None, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels) if heads is None else heads
        if channels % self.heads:
            raise ValueError(f"{channels} channels do not divide into {self.heads} heads of about {head_channels}")
        self.norm = norm(channels, group_channels, eps)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = ZeroConv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        tokens = rearrange(self.norm(x), "b c h w -> b c (h w)")
        q, k, v = rearrange(self.qkv(tokens), "b (n three c) l -> three b n l c", three=3, n=self.heads).contiguous()
        h = rearrange(F.scaled_dot_product_attention(q, k, v), "b n l c -> b (n c) l")
        return x + self.proj_out(h).view_as(x)


class TextAttention(nn.Module):
    """The pixels attend to the tokens of a prompt, heads of `head_channels` channels."""

    def __init__(self, *, channels: int, context: int, head_channels: int, group_channels: int, eps: float) -> None:
        super().__init__()
        self.norm = norm(channels, group_channels, eps)
        self.attend = CrossAttention(channels, context, max(1, channels // head_channels))

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
        h = self.attend(pixels, tokens, mask)
        return x + rearrange(h, "b (h w) c -> b c h w", h=x.shape[2])


class Downsample(nn.Module):
    """Strided convolution: half the height and width. The image is padded all around, or `after` it only."""

    def __init__(self, channels: int, padding: Literal["around", "after"] = "around") -> None:
        super().__init__()
        self.after = padding == "after"
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if self.after else 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.op(F.pad(x, (0, 1, 0, 1)) if self.after else x)


class Upsample(nn.Module):
    """Nearest neighbour, then a convolution: twice the height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Input(nn.Conv2d):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Stage(nn.ModuleList):
    """Layers applied one after another, all given the embedding, or else the tokens that they attend to."""

    def forward(self, x: Tensor, embedding: Tensor, *context: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, *context) if isinstance(layer, TextAttention) else layer(x, embedding)
        return x
