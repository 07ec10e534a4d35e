"""The magnitude-preserving U-Net of EDM2 (Karras et al. 2312.02696, appendix B), with the names of its weights.

Every layer uses its weights normalised, so their length does not matter. EDM2's training also writes the normalised
weights back after every step, which keeps the effective learning rate from decaying; that is left to the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, class_label
from realuid.networks.base import Network
from realuid.networks.edm_layers import Resample, one_hot
from realuid.networks.edm_layout import Place, layout, resolutions
from realuid.networks.sizes import check_sizes

__all__ = ["EDM2UNet"]


def _unit(x: Tensor, dim: Sequence[int]) -> Tensor:
    """x scaled to a mean square of one over `dim`."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    length = torch.linalg.vector_norm(x, dim=list(dim), keepdim=True, dtype=dtype)
    return x / (1e-4 + length / math.sqrt(math.prod([x.shape[axis] for axis in dim]))).to(x.dtype)


def _sum(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Blend of a and b that keeps the magnitude where both have it; `share` is that of b."""
    return a.lerp(b, share) / math.hypot(1 - share, share)


def _cat(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Concatenation in which b contributes `share` to the magnitude, whatever the channels of either."""
    wide, deep = a.shape[1], b.shape[1]
    scale = math.sqrt((wide + deep) / ((1 - share) ** 2 + share**2))
    return torch.cat([scale * (1 - share) / math.sqrt(wide) * a, scale * share / math.sqrt(deep) * b], dim=1)


def _silu(x: Tensor) -> Tensor:
    return F.silu(x) / 0.596


class MPLayer(nn.Module):
    """A linear layer (`kernel` 0) or a convolution without bias that keeps the magnitude."""

    def __init__(self, ins: int, outs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outs, ins, *(kernel, kernel) if kernel else ()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = _unit(self.weight.float(), range(1, self.weight.ndim))
        weight = (weight * (gain / math.sqrt(weight[0].numel()))).to(x.dtype)
        return F.linear(x, weight) if weight.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class MPWaves(nn.Module):
    """Cosines of times `[B]` at random frequencies and phases, which belong to the weights: `[B, width]`."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.empty(width))
        self.register_buffer("phases", torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.freqs, std=2 * math.pi)
        nn.init.uniform_(self.phases, 0, 2 * math.pi)

    def forward(self, time: Tensor) -> Tensor:
        angles = torch.outer(time.float(), self.freqs.float()) + self.phases.float()
        return (math.sqrt(2) * angles.cos()).to(time.dtype)


class Block(nn.Module):
    """Residual block with attention where it has heads; its norm comes first on the way down only."""

    def __init__(self, place: Place, *, encodes: bool, embedding: int, heads: int, dropout: float) -> None:
        super().__init__()
        ins, outs = place.ins, place.outs
        self.encodes, self.heads = encodes, heads
        self.resample = nn.Identity() if place.mode == "keep" else Resample(mode=place.mode, taps=(1, 1))
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.emb_linear = MPLayer(embedding, outs, 0)
        self.conv_res0 = MPLayer(outs if encodes else ins, outs, 3)
        self.dropout = nn.Dropout(dropout)
        self.conv_res1 = MPLayer(outs, outs, 3)
        self.conv_skip = MPLayer(ins, outs, 1) if ins != outs else nn.Identity()
        if heads:
            if outs % heads:
                raise ValueError(f"{outs} channels do not divide into {heads} heads")
            self.attn_qkv = MPLayer(outs, 3 * outs, 1)
            self.attn_proj = MPLayer(outs, outs, 1)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.emb_gain)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resample(x)
        if self.encodes:
            x = _unit(self.conv_skip(x), [1])
        scale = self.emb_linear(embedding, self.emb_gain) + 1
        h = self.conv_res1(self.dropout(_silu(self.conv_res0(_silu(x)) * scale[:, :, None, None])))
        if not self.encodes:
            x = self.conv_skip(x)
        x = _sum(x, h, 0.3)
        if self.heads:
            x = _sum(x, self.attn_proj(self._attended(x)), 0.3)
        return x.clip(-256, 256)

    def _attended(self, x: Tensor) -> Tensor:
        """Cosine attention: queries, keys and values of unit magnitude; their order is that of EDM's `Block`."""
        qkv = rearrange(self.attn_qkv(x), "b (n c three) h w -> b n c three (h w)", three=3, n=self.heads)
        q, k, v = rearrange(_unit(qkv, [2]), "b n c three l -> three b n l c").contiguous()
        h = F.scaled_dot_product_attention(q, k, v)
        return rearrange(h, "b n (h w) c -> b (n c) h w", h=x.shape[2])


class EDM2UNet(Network):
    """EDM2's U-Net: `network(x [B, in_multiplier * C, H, W], time [B], condition) -> [B, out_multiplier * C, H, W]`.

    The label `classes` stands for no class: EDM2 gives a row of zeros then, instead of a one-hot row.

    Args:
        shape: (C, H, W) of the images; H and W divisible by 2^(len(multipliers) - 1).
        width: channels are `width` times a multiplier.
        multipliers: of each resolution, from full resolution down.
        blocks: residual blocks a resolution.
        attention: depths (0 = full resolution) whose blocks attend; the middle always does.
        head_channels: channels of an attention head; a layer with fewer has no attention.
        classes: number of class labels; 0 for an unconditional network, which ignores them.
        dropout: probability inside residual blocks.
        embedding: width of the embedding as a multiple of `width`; None for the largest multiplier.
        time_width: width of the waves that embed time, as a multiple of `width`; None for the first multiplier.
        out_multiplier: how many times C channels to predict (`Target.out_multiplier`).
        in_multiplier: how many images it is given: x_t, beside it x0 (if the model is conditioned on it) and noise.

    Raises:
        ValueError: if the shape does not divide, a depth in `attention` does not exist, channels do not divide into
            heads, or a number is less than one.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        width: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Sequence[int] = (2, 3),
        head_channels: int = 64,
        classes: int = 0,
        dropout: float = 0.0,
        embedding: int | None = None,
        time_width: int | None = None,
        out_multiplier: int = 1,
        in_multiplier: int = 1,
    ) -> None:
        super().__init__()
        check_sizes({"shape": shape, "width": width, "multipliers": multipliers, "blocks": blocks})
        check_sizes({"head_channels": head_channels})
        self.shape, self.classes, self.channels = tuple(shape), classes, shape[0]
        self.in_multiplier, self.out_multiplier = in_multiplier, out_multiplier
        self.conditions = class_label(classes)
        widths = [width * multiplier for multiplier in multipliers]
        embedded = max(widths) if embedding is None else width * embedding
        timed = widths[0] if time_width is None else width * time_width
        self.emb_fourier = MPWaves(timed)
        self.emb_noise = MPLayer(timed, embedded, 0)
        self.emb_label = MPLayer(classes, embedded, 0) if classes else None

        names = resolutions(shape, len(multipliers), attention)
        self.factor = 2 ** (len(multipliers) - 1)
        down, up = layout(names=names, first=widths[0], widths=widths, blocks=blocks, attention=attention)

        def block(place: Place, encodes: bool) -> Block:
            heads = place.outs // head_channels if place.attends else 0
            return Block(place, encodes=encodes, embedding=embedded, heads=heads, dropout=dropout)

        self.enc = nn.ModuleDict({f"{names[0]}_conv": MPLayer(in_multiplier * shape[0] + 1, widths[0], 3)})
        self.enc.update({place.name: block(place, encodes=True) for place in down})
        self.dec = nn.ModuleDict({place.name: block(place, encodes=False) for place in up})
        self.joins = frozenset(place.name for place in up if place.joins)
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.out_conv = MPLayer(widths[0], out_multiplier * shape[0], 3)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.out_gain)

    @property
    def has_null(self) -> bool:
        return bool(self.classes)

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        return self.undivided(shape, self.factor)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        embedding = self.emb_noise(self.emb_fourier(time))
        if self.emb_label is not None:
            hot = one_hot(condition[LABEL], self.classes, like=embedding) * math.sqrt(self.classes)
            embedding = _sum(embedding, self.emb_label(hot), 0.5)
        embedding = _silu(embedding)
        first, *down = self.enc.values()
        image, beside = x[:, : self.channels], x[:, self.channels :]
        x = first(torch.cat([image, torch.ones_like(x[:, :1]), beside], dim=1))
        skips = [x]
        for block in down:
            x = block(x, embedding)
            skips.append(x)
        for name, block in self.dec.items():
            x = block(_cat(x, skips.pop(), 0.5) if name in self.joins else x, embedding)
        return self.out_conv(x, self.out_gain)
