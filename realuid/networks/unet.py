"""The U-Net of ADM (Dhariwal & Nichol 2105.05233), with guided-diffusion's module names, so that weights in that
format (also TorchCFM's and the RealUID authors') fit.

Of its family it keeps what matching models use: residual blocks with group norm, attention at chosen depths, time and
class embeddings added to or scaling the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from realuid.networks.embedding import sinusoidal

__all__ = ["UNet"]

GROUPS = 32


def _norm(channels: int, group_channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels // group_channels), channels, eps=eps)


class ZeroConv1d(nn.Conv1d):
    """Starts at zero, as the last layer of a residual branch should."""

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class ZeroConv2d(nn.Conv2d):
    """Starts at zero, as the last layer of a residual branch and of the network should."""

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


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
            _norm(channels, group_channels, eps), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels * (1 + scale_shift)))
        self.out_layers = nn.Sequential(
            _norm(out_channels, group_channels, eps),
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
        self.norm = _norm(channels, group_channels, eps)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = ZeroConv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        tokens = rearrange(self.norm(x), "b c h w -> b c (h w)")
        q, k, v = rearrange(self.qkv(tokens), "b (n three c) l -> three b n l c", three=3, n=self.heads).contiguous()
        h = rearrange(F.scaled_dot_product_attention(q, k, v), "b n l c -> b (n c) l")
        return x + self.proj_out(h).view_as(x)


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


class _Input(nn.Conv2d):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class _Stage(nn.ModuleList):
    """Layers applied one after another, all given the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding)
        return x


class UNet(nn.Module):
    """ADM's U-Net: `network(x [B, inputs * C, H, W], time [B], labels [B]) -> [B, height * C, H, W]`.

    Args:
        shape: (C, H, W) of the images; H and W divisible by 2^(len(multipliers) - 1).
        width: channels at full resolution.
        multipliers: channels of each resolution as multiples of `width`, from full resolution down.
        blocks: residual blocks a resolution.
        attention: depths (0 = full resolution) whose blocks are followed by self-attention; the middle always has it.
        head_channels: channels of an attention head; a layer with fewer has one head.
        heads: number of heads of every attention layer, whatever its channels; None to go by `head_channels`.
        group_channels: least channels of a normalisation group; there are at most 32 groups. 1 is guided-diffusion's.
        classes: number of class labels; 0 for an unconditional network, which ignores them.
        conditioning: how time and class enter a residual block: `add`ed, or as `scale_shift` of the normalised
            features.
        dropout: probability inside residual blocks.
        time_scale: the time is multiplied by this before its sinusoidal embedding, whose highest frequency is 1 rad.
        resampling: by a convolution (`conv`), or inside a residual `block`, as ADM's ImageNet models do.
        padding: of the convolutions that halve the size; `after` is Ho et al.'s.
        endpoint: whether the lowest frequency of the time embedding is 1/10000 itself; Ho et al.'s is.
        eps: of the norms.
        height: how many times C channels to predict (`Target.height`).
        inputs: how many images it is given: x_t, and beside it x0 (a model conditioned on it) and a student's noise.
        null_label: adds the label `classes`, which means none, for classifier-free guidance.

    Attributes:
        middle_channels: channels of the middle block, what `encode` returns.

    Raises:
        ValueError: if the shape does not divide, a depth in `attention` does not exist, or channels do not divide into
            heads or groups.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (1,),
        head_channels: int = 64,
        heads: int | None = None,
        group_channels: int = 1,
        classes: int = 0,
        conditioning: Literal["add", "scale_shift"] = "add",
        dropout: float = 0.0,
        time_scale: float = 1.0,
        resampling: Literal["conv", "block"] = "conv",
        padding: Literal["around", "after"] = "around",
        endpoint: bool = False,
        eps: float = 1e-5,
        height: int = 1,
        inputs: int = 1,
        null_label: bool = False,
    ) -> None:
        super().__init__()
        channels, *size = shape
        factor = 2 ** (len(multipliers) - 1)
        if any(side % factor for side in size):
            raise ValueError(f"H and W of shape {tuple(shape)} must be divisible by {factor}, one halving a multiplier")
        if not set(attention) <= set(range(len(multipliers))):
            raise ValueError(f"attention depths {list(attention)} must lie in 0..{len(multipliers) - 1}")
        if width % 2 or group_channels < 1 or any(width * m % group_channels for m in multipliers):
            raise ValueError(f"width = {width} must be even and a multiple of group_channels = {group_channels}")
        self.shape, self.classes, self.head_channels, self.heads = tuple(shape), classes, head_channels, heads
        self.width, self.time_scale, self.endpoint, self.null_label = width, time_scale, endpoint, null_label
        self.inputs, self.height = inputs, height
        embedding = 4 * width

        def residual(ins: int, outs: int, resample: nn.Module | None = None) -> ResBlock:
            return ResBlock(
                channels=ins,
                out_channels=outs,
                embedding=embedding,
                dropout=dropout,
                scale_shift=conditioning == "scale_shift",
                group_channels=group_channels,
                eps=eps,
                resample=resample,
            )

        def attend(channels: int) -> AttentionBlock:
            return AttentionBlock(
                channels=channels, head_channels=head_channels, group_channels=group_channels, heads=heads, eps=eps
            )

        def half(channels: int) -> nn.Module:
            if resampling == "block":
                return residual(channels, channels, nn.AvgPool2d(2))
            return Downsample(channels, padding)

        def twice(channels: int) -> nn.Module:
            if resampling == "block":
                return residual(channels, channels, nn.Upsample(scale_factor=2))
            return Upsample(channels)

        def stage(ins: int, outs: int, depth: int) -> list[nn.Module]:
            layers: list[nn.Module] = [residual(ins, outs)]
            if depth in attention:
                layers.append(attend(outs))
            return layers

        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Embedding(classes + null_label, embedding) if classes else None

        current = width * multipliers[0]
        self.input_blocks = nn.ModuleList([_Stage([_Input(inputs * channels, current, 3, padding=1)])])
        skips = [current]
        for depth, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.input_blocks.append(_Stage(stage(current, width * multiplier, depth)))
                current = width * multiplier
                skips.append(current)
            if depth + 1 < len(multipliers):
                self.input_blocks.append(_Stage([half(current)]))
                skips.append(current)

        self.middle_channels = current
        self.middle_block = _Stage(
            [
                residual(current, current),
                attend(current),
                residual(current, current),
            ]
        )

        self.output_blocks = nn.ModuleList()
        for depth, multiplier in reversed(list(enumerate(multipliers))):
            for index in range(blocks + 1):
                layers = stage(current + skips.pop(), width * multiplier, depth)
                current = width * multiplier
                if depth and index == blocks:
                    layers.append(twice(current))
                self.output_blocks.append(_Stage(layers))

        self.out = nn.Sequential(
            _norm(current, group_channels, eps), nn.SiLU(), ZeroConv2d(current, height * channels, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        x, embedding, skips = self._down(x, time, labels)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)

    def encode(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """The middle block's output `[B, middle_channels, h, w]`, h and w being H and W at the lowest resolution."""
        return self._down(x, time, labels)[0]

    def _down(self, x: Tensor, time: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The middle block's output, the embedding `[B, 4 * width]`, and what the way up is given of the way down."""
        embedding = self.time_embed(sinusoidal(self.time_scale * time, self.width, endpoint=self.endpoint))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(labels)
        skips: list[Tensor] = []
        for block in self.input_blocks:
            x = block(x, embedding)
            skips.append(x)
        return self.middle_block(x, embedding), embedding, skips
