"""The transformer of DiT (Peebles & Xie 2212.09748), also SiT's (2401.08740), with the names of its weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, class_label
from realuid.networks.base import Network
from realuid.networks.cross_attention import CrossAttention, Tokens, text_fields
from realuid.networks.embedding import sinusoidal
from realuid.networks.sizes import check_sizes
from realuid.networks.zero import ZeroLinear

__all__ = ["DiT"]

WAVES = 256
"""Width of the waves that embed time."""


class XavierLinear(nn.Linear):
    """Starts with xavier-uniform weights and no bias."""

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class NormalLinear(nn.Linear):
    """Starts with small normal weights."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class Patches(nn.Module):
    """Patches of the image as tokens `[B, L, width]`, row by row."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = _PatchConv(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.proj(x), "b c h w -> b (h w) c")


class _PatchConv(nn.Conv2d):
    def reset_parameters(self) -> None:  # as the linear layer that it is
        nn.init.xavier_uniform_(self.weight.view(len(self.weight), -1))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Times(nn.Module):
    """Times `[B]` to embeddings `[B, width]`."""

    def __init__(self, width: int, endpoint: bool) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.mlp = nn.Sequential(NormalLinear(WAVES, width), nn.SiLU(), NormalLinear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        return self.mlp(sinusoidal(time, WAVES, endpoint=self.endpoint))


class Labels(nn.Module):
    """Labels `[B]` to embeddings `[B, width]`; the row after the classes is that of no class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = _SmallEmbedding(classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class _SmallEmbedding(nn.Embedding):
    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens `[B, L, width]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = XavierLinear(width, 3 * width), XavierLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b l (three n c) -> three b n l c", three=3, n=self.heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b n l c -> b l (n c)"))


class Perceptron(nn.Module):
    """Two layers with a tanh-approximated GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = XavierLinear(width, hidden), XavierLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """Layer norm without weights, then scale and shift `[B, width]` from the embedding."""
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and perceptron, each shifted, scaled and gated by the embedding (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.attn, self.mlp = SelfAttention(width, heads), Perceptron(width, hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), ZeroLinear(width, 6 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(embedding).chunk(6, dim=1)
        x = x + gate[:, None] * self.attn(_modulated(x, shift, scale))
        return x + gate2[:, None] * self.mlp(_modulated(x, shift2, scale2, self.eps))


class TextBlock(Block):
    """A block that attends to tokens between its own attention and its perceptron, as PixArt's do."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float, context: int) -> None:
        super().__init__(width, heads, hidden, eps)
        self.cross_attn = CrossAttention(width, context, heads)

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(embedding).chunk(6, dim=1)
        x = x + gate[:, None] * self.attn(_modulated(x, shift, scale))
        x = x + self.cross_attn(x, tokens, mask)
        return x + gate2[:, None] * self.mlp(_modulated(x, shift2, scale2, self.eps))


class Last(nn.Module):
    """Tokens to patches."""

    def __init__(self, width: int, outs: int) -> None:
        super().__init__()
        self.linear = ZeroLinear(width, outs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), ZeroLinear(width, 2 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(embedding).chunk(2, dim=1)
        return self.linear(_modulated(x, shift, scale))


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed embeddings of the places of a grid, row by row: `[rows * columns, width]`.

    The first half of the width tells the column, the second the row; each half is sines, then cosines, at geometric
    frequencies from 1 to 1/10000 (the last not reached).
    """
    quarter = width // 4
    frequencies = 10_000 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)

    def waves(count: int) -> Tensor:
        angles = torch.outer(torch.arange(count, dtype=torch.float64), frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    half = 2 * quarter
    across = waves(columns)[None].expand(rows, columns, half)
    down = waves(rows)[:, None].expand(rows, columns, half)
    return torch.cat([across, down], dim=2).flatten(0, 1).float()


class DiT(Network):
    """DiT and SiT: `network(x [B, in_multiplier * C, H, W], time [B], condition) -> [B, out_multiplier * C, H, W]`.

    The label `classes` stands for no class, for classifier-free guidance. The variance that the published models
    predict beside their target is left out; the readers cut it off.

    Args:
        shape: (C, H, W) of the images or latents; H and W divisible by `patch`.
        patch: side of a patch.
        width: of a token; divisible by four and by `heads`.
        depth: number of blocks.
        heads: of attention.
        expansion: hidden units of a perceptron as a multiple of `width`.
        classes: number of class labels; 0 for a network that ignores them.
        context: width of the token embeddings that its blocks attend to; 0 for a network that reads no text.
        time_scale: the time is multiplied by this before its sinusoidal embedding, whose highest frequency is 1 rad.
        endpoint: whether the lowest frequency of the time embedding is 1/10000 itself, as in diffusers.
        eps: of the norm before a perceptron; 1e-5 in diffusers.
        out_multiplier: how many times C channels to predict (`Target.out_multiplier`).
        in_multiplier: how many images it is given: x_t, beside it x0 (if the model is conditioned on it) and noise.

    Raises:
        ValueError: if the shape does not divide into patches, or the width into heads.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        patch: int = 2,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        expansion: float = 4.0,
        classes: int = 0,
        context: int = 0,
        time_scale: float = 1.0,
        endpoint: bool = False,
        eps: float = 1e-6,
        out_multiplier: int = 1,
        in_multiplier: int = 1,
    ) -> None:
        super().__init__()
        check_sizes({"shape": shape, "patch": patch, "width": width, "depth": depth, "heads": heads})
        channels, *size = shape
        if any(side % patch for side in size):
            raise ValueError(f"H and W of shape {tuple(shape)} must be divisible by the patch, {patch}")
        if width % 4 or width % heads:
            raise ValueError(f"width = {width} must be divisible by four and by heads = {heads}")
        self.shape, self.classes, self.width, self.heads = tuple(shape), classes, width, heads
        self.patch, self.time_scale, self.rows = patch, time_scale, size[0] // patch
        self.in_multiplier, self.out_multiplier = in_multiplier, out_multiplier
        self.conditions = (*class_label(classes), *text_fields(context))
        self.x_embedder = Patches(in_multiplier * channels, width, patch)
        self.t_embedder = Times(width, endpoint)
        self.y_embedder = Labels(classes, width) if classes else None
        grid = positions(self.rows, size[1] // patch, width)
        self.register_buffer("positions", grid, persistent=False)
        self.tokens = Tokens(context) if context else None
        hidden = round(width * expansion)
        self.blocks = nn.ModuleList(
            TextBlock(width, heads, hidden, eps, context) if context else Block(width, heads, hidden, eps)
            for _ in range(depth)
        )
        self.final_layer = Last(width, patch * patch * out_multiplier * channels)

    @property
    def has_null(self) -> bool:
        return bool(self.conditions)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        embedding = self.t_embedder(self.time_scale * time)
        if self.y_embedder is not None:
            embedding = embedding + self.y_embedder(condition[LABEL])
        h = self.x_embedder(x) + self.positions
        context = () if self.tokens is None else self.tokens(condition, h.dtype)
        for block in self.blocks:
            h = block(h, embedding, *context)
        h = self.final_layer(h, embedding)
        return rearrange(h, "b (h w) (p q c) -> b c (h p) (w q)", h=self.rows, p=self.patch, q=self.patch)
