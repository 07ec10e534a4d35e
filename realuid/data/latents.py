"""Latents of an autoencoder in place of images."""

import hashlib

import torch
from torch import Tensor

from realuid.data.dataset import Batch, Dataset, Scaling, Wrapped
from realuid.utils.errors import DataError

__all__ = ["Latents"]


class Latents(Wrapped):
    """Float arrays of a set, shifted and scaled for networks: z = (x - mean) / deviation in float32.

    Args:
        data: a set of float16 or float32 arrays.
        mean: of the values, one for all channels or one for each.
        deviation: of the values, likewise; Stable Diffusion's factor 0.18215 is a deviation of 5.48998.

    Raises:
        ValueError: a deviation that is not positive, or numbers that do not fit the channels.
    """

    def __init__(
        self, *, data: Dataset, mean: tuple[float, ...] = (0.0,), deviation: tuple[float, ...] = (1.0,)
    ) -> None:
        super().__init__(data)
        if not {len(mean), len(deviation)} <= {1, data.shape[0]} or min(deviation) <= 0:
            raise ValueError(
                f"Latents of {data.shape[0]} channels take as many means and positive deviations, or one of each, "
                f"got {mean} and {deviation}"
            )
        self.mean, self.deviation = mean, deviation

    @property
    def latent_scaling(self) -> Scaling:
        return self.mean, self.deviation

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"{self.data.checksum} latents {self.mean} {self.deviation}".encode()).hexdigest()

    def batch(self, start: int, count: int) -> Batch:
        return self._scaled(self.data.batch(start, count))

    def examples(self, start: int, count: int) -> Batch:
        return self._scaled(self.data.examples(start, count))

    def _scaled(self, batch: Batch) -> Batch:
        return Batch(
            self._units(batch.images), batch.condition, None if batch.sources is None else self._units(batch.sources)
        )

    def _units(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise DataError(f"Latents.data gives {x.dtype} images, not the arrays of an autoencoder")
        return in_units(x, self.latent_scaling)


def in_units(x: Tensor, scaling: Scaling) -> Tensor:
    """Latents `[B, C, h, w]` of an autoencoder in the units of a model, float32."""
    mean, deviation = (torch.tensor(values, device=x.device)[:, None, None] for values in scaling)
    return (x.to(torch.float32) - mean) / deviation
