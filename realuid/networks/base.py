"""What a network is to everything around it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, Condition, Field, classes_of

__all__ = ["Network"]


class Network(nn.Module, ABC):
    """`network(x [B, in_multiplier * C, ...], time [B], condition) -> [B, out_multiplier * C, ...]`.

    Beside the scaled x_t, x holds x0 (of a model conditioned on it) and a student's noise.

    Attributes:
        shape: of one sample, (C, H, W) or (D,); None if the network does not state it.
        in_multiplier: how many images it is given; None if it does not state it.
        out_multiplier: how many images it predicts, `Target.out_multiplier`; None if it does not state it.
        conditions: the fields of the condition that it reads. It ignores all others.
        middle_channels: channels of what `encode` returns; None if it cannot encode.
        null_remedy: how one of these networks gets a null condition, for messages.
    """

    shape: tuple[int, ...] | None = None
    in_multiplier: int | None = None
    out_multiplier: int | None = None
    conditions: tuple[Field, ...] = ()
    middle_channels: int | None = None
    null_remedy: str = "use another network"

    @abstractmethod
    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor: ...

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        """Why samples `[C, H, W]` of this shape cannot be taken, as the end of a sentence; None if they can.

        A network takes its own shape alone, unless it says more; one that states no shape is believed to take any.
        """
        if self.shape is None or tuple(shape) == tuple(self.shape):
            return None
        return f"takes samples of its own shape {tuple(self.shape)} alone"

    def undivided(self, shape: tuple[int, ...], factor: int) -> str | None:
        """`unfit` of a network that takes its own channels in any size whose sides are multiples of `factor`."""
        assert self.shape is not None
        if len(shape) == len(self.shape) and shape[0] == self.shape[0] and not any(side % factor for side in shape[1:]):
            return None
        return f"takes samples of {self.shape[0]} channels whose sides are multiples of {factor}"

    @property
    def has_null(self) -> bool:
        """Whether there is a condition that tells nothing, for classifier-free guidance."""
        return False

    def null(self, condition: Condition) -> Condition:
        """The condition that tells nothing, for as many samples, with the same fields.

        Class labels become the number of classes; floats and masks become zero.

        Raises:
            ValueError: if there is none.
        """
        if not self.has_null:
            raise ValueError(f"{type(self).__name__} has no null condition")
        classes = classes_of(self.conditions)
        read = {field.name for field in self.conditions}
        return Condition(
            {
                name: tensor
                if name not in read
                else torch.full_like(tensor, classes)
                if name == LABEL
                else torch.zeros_like(tensor)
                for name, tensor in condition.items()
            }
        )

    def encode(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Middle features `[B, middle_channels, h, w]`, for a discriminator.

        Raises:
            NotImplementedError: if the network has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no middle features")
