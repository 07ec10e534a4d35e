"""Cross-attention to the token embeddings of a condition, as U-Nets (Rombach et al. 2112.10752) and transformers
(PixArt, Chen et al. 2310.00426) read prompts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from realuid.conditions import Condition, Field
from realuid.networks.zero import ZeroLinear

__all__ = ["CrossAttention", "Tokens", "text_fields"]


def text_fields(width: int) -> tuple[Field, ...]:
    """The fields that a network with cross-attention reads: `text` [L, width], and `mask` [L], true where there is a
    token, for any L; none if `width` is 0."""
    return (Field("text", (None, width)), Field("mask", (None,), "bool")) if width else ()


class Tokens(nn.Module):
    """The tokens to attend to `[B, 1 + L, width]`, normalised, and their mask `[B, 1 + L]`.

    A learned token stands before all others. It is all there is of a condition without tokens, which so becomes the
    null condition of classifier-free guidance.

    Args:
        width: of a token embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.empty(width))
        self.norm = nn.LayerNorm(width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.null)

    def forward(self, condition: Condition, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        text, mask = condition["text"].to(dtype), condition["mask"]
        first = self.null.to(dtype).expand(text.shape[0], 1, -1)
        return self.norm(torch.cat([first, text], dim=1)), F.pad(mask, (1, 0), value=True)


class CrossAttention(nn.Module):
    """Queries `[B, N, width]` attend to tokens `[B, L, context]` where their mask `[B, L]` is true: `[B, N, width]`.

    The last layer starts at zero, so that a network starts as the one without it.

    Args:
        width: of the queries; divisible by `heads`.
        context: width of a token.
        heads: of attention.
    """

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_kv = nn.Linear(width, width), nn.Linear(context, 2 * width)
        self.to_out = ZeroLinear(width, width)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        q = rearrange(self.to_q(x), "b l (n c) -> b n l c", n=self.heads)
        k, v = rearrange(self.to_kv(tokens), "b l (two n c) -> two b n l c", two=2, n=self.heads)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return self.to_out(rearrange(h, "b n l c -> b l (n c)"))
