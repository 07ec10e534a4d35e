"""The U-Net of ADM (Dhariwal & Nichol 2105.05233), with guided-diffusion's module names, so that weights in that
format (also TorchCFM's and the RealUID authors') fit.

Of its family it keeps what matching models use: residual blocks with group norm, attention at chosen depths, time and
class embeddings added to or scaling the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, Field, class_label
from realuid.networks.base import Network
from realuid.networks.cross_attention import Tokens, text_fields
from realuid.networks.embedding import sinusoidal
from realuid.networks.sizes import check_sizes
from realuid.networks.unet_layers import (
    AttentionBlock,
    Downsample,
    Input,
    ResBlock,
    Stage,
    TextAttention,
    Upsample,
    norm,
)
from realuid.networks.zero import ZeroConv2d

__all__ = ["UNet"]


class UNet(Network):
    """ADM's U-Net: `network(x [B, in_multiplier * C, H, W], time [B], condition) -> [B, out_multiplier * C, H, W]`.

    Args:
        shape: (C, H, W) of the images; H and W divisible by 2^(len(multipliers) - 1).
        width: channels at full resolution.
        multipliers: channels of each resolution as multiples of `width`, from full resolution down.
        blocks: residual blocks a resolution.
        attention: depths (0 = full resolution) whose blocks are followed by self-attention; the middle always has it.
        head_channels: channels of an attention head; a layer with fewer has one head.
        heads: number of heads of every attention layer, whatever its channels; None to go by `head_channels`.
        group_channels: least channels of a normalisation group; there are at most 32 groups. 1 is guided-diffusion's.
        classes: number of class labels; 0 for a network that ignores them.
        context: width of the token embeddings that its pixels attend to, wherever they attend to each other; 0 for a
            network that reads no text.
        image_channels: channels of an image in the condition (`image` [image_channels, H, W], in about [-1, 1]), which
            is concatenated to the input; 0 for a network that reads none.
        conditioning: how time and class enter a residual block: `add`ed, or as `scale_shift` of the normalised
            features.
        dropout: probability inside residual blocks.
        time_scale: the time is multiplied by this before its sinusoidal embedding, whose highest frequency is 1 rad.
        resampling: by a convolution (`conv`), or inside a residual `block`, as ADM's ImageNet models do.
        padding: of the convolutions that halve the size; `after` is Ho et al.'s.
        endpoint: whether the lowest frequency of the time embedding is 1/10000 itself; Ho et al.'s is.
        eps: of the norms.
        out_multiplier: how many times C channels to predict (`Target.out_multiplier`).
        in_multiplier: how many images it is given: x_t, beside it x0 (if the model is conditioned on it) and noise.
        null_label: adds the label `classes`, which means none, for classifier-free guidance.

    Attributes:
        middle_channels: channels of the middle block, what `encode` returns.

    Raises:
        ValueError: if the shape does not divide, a depth in `attention` does not exist, channels do not divide into
            heads or groups, or a number is less than one.
    """

    null_remedy = "bind UNet.null_label = True"

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
        context: int = 0,
        image_channels: int = 0,
        conditioning: Literal["add", "scale_shift"] = "add",
        dropout: float = 0.0,
        time_scale: float = 1.0,
        resampling: Literal["conv", "block"] = "conv",
        padding: Literal["around", "after"] = "around",
        endpoint: bool = False,
        eps: float = 1e-5,
        out_multiplier: int = 1,
        in_multiplier: int = 1,
        null_label: bool = False,
    ) -> None:
        super().__init__()
        check_sizes({"shape": shape, "width": width, "multipliers": multipliers, "blocks": blocks})
        check_sizes({"head_channels": head_channels, "group_channels": group_channels})
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
        self.in_multiplier, self.out_multiplier, self.image_channels = in_multiplier, out_multiplier, image_channels
        self.factor = factor
        image = (Field("image", (image_channels, *size)),) if image_channels else ()
        self.conditions = (*class_label(classes), *text_fields(context), *image)
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

        def attention_layers(channels: int) -> list[nn.Module]:
            layers: list[nn.Module] = [attend(channels)]
            if context:
                layers.append(
                    TextAttention(
                        channels=channels,
                        context=context,
                        head_channels=head_channels,
                        group_channels=group_channels,
                        eps=eps,
                    )
                )
            return layers

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
                layers += attention_layers(outs)
            return layers

        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Embedding(classes + null_label, embedding) if classes else None

        current = width * multipliers[0]
        self.tokens = Tokens(context) if context else None
        shown = in_multiplier * channels + image_channels
        self.input_blocks = nn.ModuleList([Stage([Input(shown, current, 3, padding=1)])])
        skips = [current]
        for depth, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.input_blocks.append(Stage(stage(current, width * multiplier, depth)))
                current = width * multiplier
                skips.append(current)
            if depth + 1 < len(multipliers):
                self.input_blocks.append(Stage([half(current)]))
                skips.append(current)

        self.middle_channels = current
        self.middle_block = Stage(
            [
                residual(current, current),
                *attention_layers(current),
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
                self.output_blocks.append(Stage(layers))

        self.out = nn.Sequential(
            norm(current, group_channels, eps), nn.SiLU(), ZeroConv2d(current, out_multiplier * channels, 3, padding=1)
        )

    @property
    def has_null(self) -> bool:
        return bool(self.conditions) and (self.null_label or not self.classes)

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        return super().unfit(shape) if self.image_channels else self.undivided(shape, self.factor)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        x, skips, context = self._down(x, time, condition)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), *context)
        return self.out(x)

    def encode(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The middle block's output `[B, middle_channels, h, w]`, h and w being H and W at the lowest resolution."""
        return self._down(x, time, condition)[0]

    def _down(self, x: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The middle block's output, what the way up is given of the way down, and what all blocks are given: the
        embedding `[B, 4 * width]` and, of a network that reads text, tokens and mask."""
        embedding = self.time_embed(sinusoidal(self.time_scale * time, self.width, endpoint=self.endpoint))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(condition[LABEL])
        context = [embedding]
        if self.tokens is not None:
            context += self.tokens(condition, x.dtype)
        if self.image_channels:
            x = torch.cat([x, condition["image"].to(x.dtype)], dim=1)
        skips: list[Tensor] = []
        for block in self.input_blocks:
            x = block(x, *context)
            skips.append(x)
        return self.middle_block(x, *context), skips, context
