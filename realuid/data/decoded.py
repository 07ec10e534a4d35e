"""Latents as the pictures that a decoder makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from realuid.data.dataset import Batch, Dataset, Wrapped
from realuid.data.pixels import to_float, to_uint8

__all__ = ["Decoded"]


class Decoded(Wrapped):
    """A set of latents as uint8 pictures.

    Args:
        data: the latents; opened or not.
        decoder: from latents `[B, C, h, w]` to pictures `[B, 3, H, W]` in about [-1, 1]; asked for two of them at once,
            by which pictures of different decoders are told apart.
    """

    def __init__(self, data: Dataset, decoder: Callable[[Tensor], Tensor]) -> None:
        super().__init__(data)
        self.decoder = decoder
        probe = torch.randn(2, *data.shape, generator=torch.Generator().manual_seed(0))
        pictures = to_uint8(decoder(probe)).cpu()
        _, *sides = pictures.shape
        self.shape = (sides[0], sides[1], sides[2])
        self._fingerprint = hashlib.sha256(pictures.contiguous().numpy().tobytes()).hexdigest()

    @property
    def latent_scaling(self) -> None:
        return None

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"{self.data.checksum} decoded {self._fingerprint}".encode()).hexdigest()

    def batch(self, start: int, count: int) -> Batch:
        return self._decoded(self.data.batch(start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._decoded(self.data.examples(start, count))

    def _decoded(self, batch: Batch) -> Batch:
        return batch._replace(images=to_uint8(self.decoder(to_float(batch.images))))
