"""Latents as the sequences of patches that some transformers are given."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from realuid.pretrained.pipelines.family import Config, Family

PATCH = 2
"""Latents of a patch in each direction."""


def packed(x: Tensor) -> Tensor:
    """`[B, C, H, W]` as `[B, H W / 4, 4 C]`: the patches row by row, the channels of a patch slowest."""
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH)


def unpacked(tokens: Tensor, like: Tensor) -> Tensor:
    """The inverse of `packed`, for latents of the same height and width as `like`."""
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=like.shape[2] // PATCH, p=PATCH, q=PATCH)


class PatchFamily(Family):
    """Pipelines that pack the latents themselves: their network's channels are those of a patch. The network may be
    told a guidance scale, and is told sigma as its time.
    """

    hands_levels = True

    def channels(self, config: Config) -> int:
        return int(config["in_channels"]) // PATCH**2

    def patch(self, config: Config) -> int:
        return PATCH

    def embeds_guidance(self, config: Config) -> bool:
        return bool(config.get("guidance_embeds"))

    def per_step(self, config: Config) -> float:
        return 1 / 1000
