"""Autoencoders: from pictures to the latents that a model is trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["Autoencoder"]


class Autoencoder(ABC):
    """Turns pictures into latents. A set of latents states the autoencoder that made them, and is read with no other.

    Attributes:
        has_deviation: whether it gives a normal distribution of each latent, from which one is drawn, or a value.
    """

    has_deviation: bool

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called beside its checksum."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """sha256 in hexadecimal of all that its answers depend on.

        Raises:
            RunError: if its weights are not there.
        """

    @property
    @abstractmethod
    def units(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation by which its latents x become those of a model, (x - mean) / deviation: one number for all
        channels, or one for each.

        Raises:
            RunError: if its configuration is not there.
        """

    @abstractmethod
    def __call__(self, pictures: Tensor) -> Tensor:
        """Latents of pictures.

        Args:
            pictures: uint8 `[B, 3, H, W]`.

        Returns:
            float32 on the CPU: mean and behind it deviation of each latent, `[B, 2 C, h, w]`, or without a deviation
            its value, `[B, C, h, w]`.

        Raises:
            RunError: if its weights are not there, or the sides of the pictures do not divide.
        """
