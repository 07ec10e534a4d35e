"""The two U-Nets of EDM (Karras et al. 2206.00364), with the names of its weights: Song's and Dhariwal's.

They are the networks alone: F of the preconditioning. EDM's augmentation embedding is left out; it is zero whenever
a model is sampled. The label `classes` stands for no class: EDM gives a row of zeros then, instead of a one-hot row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, class_label
from realuid.networks.base import Network
from realuid.networks.edm_layers import Block, Conv, ConvDown, GeometricWaves, Linear, RandomWaves, norm, one_hot
from realuid.networks.edm_layout import Place, layout, resolutions
from realuid.networks.sizes import check_sizes

__all__ = ["DhariwalUNet", "SongUNet"]


class _Body(Network):
    """What both U-Nets share: blocks on the way down and up, all given one embedding."""

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        in_multiplier: int,
        first: int,
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        block: Callable[[Place], Block],
        image_taps: Sequence[int] | None,
        eps: float,
        gains: tuple[float | None, float | None],
        outs: int,
    ) -> None:
        """Args not told by the networks' own: `first` channels after the first convolution; `block` builds one;
        `image_taps`, the filter that brings the image to every depth, if it enters there; `gains` of the first and last
        convolution."""
        super().__init__()
        self.in_multiplier, self.out_multiplier = in_multiplier, outs // shape[0]
        names = resolutions(shape, len(widths), attention)
        self.factor = 2 ** (len(widths) - 1)
        down, up = layout(names=names, first=first, widths=widths, blocks=blocks, attention=attention)
        current = in_multiplier * shape[0]
        self.enc = nn.ModuleDict({f"{names[0]}_conv": Conv(current, first, 3, gain=gains[0])})
        for place in down:
            self.enc[place.name] = block(place)
            if image_taps and place.mode == "down":
                self.enc[place.name.replace("down", "aux_residual")] = ConvDown(current, place.outs, taps=image_taps)
                current = place.outs
        self.dec = nn.ModuleDict({place.name: block(place) for place in up})
        self.joins = frozenset(place.name for place in up if place.joins)
        self.out_norm = norm(widths[0], eps)
        self.out_conv = Conv(widths[0], outs, 3, gain=gains[1])

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        return self.undivided(shape, self.factor)

    @property
    def has_null(self) -> bool:
        return bool(self.conditions)

    def _through(self, x: Tensor, embedding: Tensor) -> Tensor:
        skips: list[Tensor] = []
        image = x
        for block in self.enc.values():
            if isinstance(block, ConvDown):  # the image itself enters at every depth
                x = skips[-1] = image = (x + block(image)) / math.sqrt(2)
            else:
                x = block(x, embedding)
                skips.append(x)
        for name, block in self.dec.items():
            x = block(torch.cat([x, skips.pop()], dim=1) if name in self.joins else x, embedding)
        return self.out_conv(F.silu(self.out_norm(x)))


class _Classes(nn.Linear):
    """Classes to embeddings; starts normal, as an embedding does."""

    def __init__(self, classes: int, outs: int) -> None:
        super().__init__(classes, outs, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)


class DhariwalUNet(_Body):
    """EDM's form of ADM's U-Net.

    `network(x [B, in_multiplier * C, H, W], time [B], condition) -> [B, out_multiplier * C, H, W]`

    Args:
        shape: (C, H, W) of the images; H and W divisible by 2^(len(multipliers) - 1).
        width: channels are `width` times a multiplier.
        multipliers: of each resolution, from full resolution down.
        blocks: residual blocks a resolution.
        attention: depths (0 = full resolution) whose blocks attend; the middle always does.
        head_channels: channels of an attention head; a layer with fewer has no attention.
        classes: number of class labels; 0 for an unconditional network, which ignores them.
        dropout: probability inside residual blocks.
        embedding: width of the embedding as a multiple of `width`.
        out_multiplier: how many times C channels to predict (`Target.out_multiplier`).
        in_multiplier: how many images it is given: x_t, beside it x0 (if the model is conditioned on it) and noise.

    Raises:
        ValueError: if the shape does not divide, a depth in `attention` does not exist, channels do not divide into
            heads or groups, or a number is less than one.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        width: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Sequence[int] = (1, 2, 3),
        head_channels: int = 64,
        classes: int = 0,
        dropout: float = 0.0,
        embedding: int = 4,
        out_multiplier: int = 1,
        in_multiplier: int = 1,
    ) -> None:
        check_sizes({"shape": shape, "width": width, "multipliers": multipliers, "blocks": blocks})
        check_sizes({"head_channels": head_channels, "embedding": embedding})
        embedded = width * embedding

        def block(place: Place) -> Block:
            return Block(
                place.ins,
                place.outs,
                embedding=embedded,
                mode=place.mode,
                taps=(1, 1),
                heads=place.outs // head_channels if place.attends else 0,
                dropout=dropout,
                scale_shift=True,
                project=False,
                residual=1.0,
                eps=1e-5,
                gains=(None, 0.0, None),
            )

        super().__init__(
            shape=shape,
            in_multiplier=in_multiplier,
            first=width * multipliers[0],
            widths=[width * multiplier for multiplier in multipliers],
            blocks=blocks,
            attention=attention,
            block=block,
            image_taps=None,
            eps=1e-5,
            gains=(None, 0.0),
            outs=out_multiplier * shape[0],
        )
        self.shape, self.classes, self.conditions = tuple(shape), classes, class_label(classes)
        self.map_noise = GeometricWaves(width, endpoint=False, sines_first=False)
        self.map_layer0 = Linear(width, embedded, gain=None)
        self.map_layer1 = Linear(embedded, embedded, gain=None)
        self.map_label = _Classes(classes, embedded) if classes else None

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        embedding = self.map_layer1(F.silu(self.map_layer0(self.map_noise(time))))
        if self.map_label is not None:
            embedding = embedding + self.map_label(one_hot(condition[LABEL], self.classes, like=x))
        return self._through(x, F.silu(embedding))


class SongUNet(_Body):
    """DDPM++ and NCSN++ (Song et al. 2011.13456) in EDM's form: calling convention of `DhariwalUNet`.

    Args:
        shape: (C, H, W) of the images; H and W divisible by 2^(len(multipliers) - 1).
        width: channels are `width` times a multiplier.
        multipliers: of each resolution, from full resolution down.
        blocks: residual blocks a resolution.
        attention: depths (0 = full resolution) that attend, on the way up in their last block; the middle always does.
        classes: number of class labels; 0 for an unconditional network, which ignores them.
        dropout: probability inside residual blocks.
        embedding: width of the embedding as a multiple of `width`.
        time_width: width of the waves that embed time, as a multiple of `width`: 1 for DDPM++, 2 for NCSN++.
        waves: of fixed geometric frequencies (DDPM++), or of `random` ones drawn once (NCSN++).
        residual_input: whether the image enters the way down at every resolution (NCSN++).
        taps: filter of the resampling: (1, 1) for DDPM++, (1, 3, 3, 1) for NCSN++.
        out_multiplier: how many times C channels to predict (`Target.out_multiplier`).
        in_multiplier: how many images it is given: x_t, beside it x0 (if the model is conditioned on it) and noise.

    Raises:
        ValueError: as of `DhariwalUNet`.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        width: int = 128,
        multipliers: Sequence[int] = (2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (1,),
        classes: int = 0,
        dropout: float = 0.0,
        embedding: int = 4,
        time_width: int = 1,
        waves: Literal["geometric", "random"] = "geometric",
        residual_input: bool = False,
        taps: Sequence[int] = (1, 1),
        out_multiplier: int = 1,
        in_multiplier: int = 1,
    ) -> None:
        check_sizes({"shape": shape, "width": width, "multipliers": multipliers, "blocks": blocks})
        check_sizes({"embedding": embedding, "time_width": time_width})
        embedded, timed = width * embedding, width * time_width

        def block(place: Place) -> Block:
            inner = place.joins and not place.name.endswith(f"block{blocks}")
            return Block(
                place.ins,
                place.outs,
                embedding=embedded,
                mode=place.mode,
                taps=taps,
                heads=int(place.attends and not inner),
                dropout=dropout,
                scale_shift=False,
                project=True,
                residual=math.sqrt(0.5),
                eps=1e-6,
                gains=(1.0, 1e-5, math.sqrt(0.2)),
            )

        super().__init__(
            shape=shape,
            in_multiplier=in_multiplier,
            first=width,
            widths=[width * multiplier for multiplier in multipliers],
            blocks=blocks,
            attention=attention,
            block=block,
            image_taps=taps if residual_input else None,
            eps=1e-6,
            gains=(1.0, 1e-5),
            outs=out_multiplier * shape[0],
        )
        self.shape, self.classes, self.conditions = tuple(shape), classes, class_label(classes)
        self.map_noise = (
            RandomWaves(timed) if waves == "random" else GeometricWaves(timed, endpoint=True, sines_first=True)
        )
        self.map_label = Linear(classes, timed, gain=1.0) if classes else None
        self.map_layer0 = Linear(timed, embedded, gain=1.0)
        self.map_layer1 = Linear(embedded, embedded, gain=1.0)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        embedding = self.map_noise(time)
        if self.map_label is not None:
            embedding = embedding + self.map_label(
                one_hot(condition[LABEL], self.classes, like=x) * math.sqrt(self.classes)
            )
        embedding = F.silu(self.map_layer1(F.silu(self.map_layer0(embedding))))
        return self._through(x, embedding)
