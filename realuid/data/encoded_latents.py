"""Latents and embeddings that `make_shards.py --encode` wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from realuid.data.autoencoders import Autoencoder
from realuid.data.dataset import Batch, Dataset, Scaling, Wrapped
from realuid.data.latents import in_units
from realuid.utils.errors import DataError, RunError
from realuid.utils.keys import key

__all__ = ["EncodedLatents"]


class EncodedLatents(Wrapped):
    """Latents of a pipeline's autoencoder, as `tools/make_shards.py --encode` stores them, in the units of a model.

    Where the autoencoder gives mean and deviation, a latent is drawn from them anew whenever it is read. The draw
    depends on the seed and the position in the endless order alone; that of `examples` on the place of storage.

    Args:
        data: the stored set; its shape is (2 C, h, w) for mean and deviation, else (C, h, w).
        autoencoder: made the latents; a set that another one made is refused.

    Raises:
        ValueError: if the number of channels is odd where there is a deviation, or the set gives pairs.
    """

    def __init__(self, *, data: Dataset, autoencoder: Autoencoder) -> None:
        super().__init__(data)
        refuse_pairs(data, "EncodedLatents")
        channels, height, width = data.shape
        parts = 2 if autoencoder.has_deviation else 1
        if channels % parts:
            raise ValueError(f"mean and deviation of latents have an even number of channels, got {tuple(data.shape)}")
        self.autoencoder, self.shape = autoencoder, (channels // parts, height, width)

    @property
    def latent_scaling(self) -> Scaling:
        return self.autoencoder.units

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"{self.data.checksum} encoded {self.latent_scaling}".encode()).hexdigest()

    def missing(self) -> str | None:
        line = self.data.missing()
        if line is None:
            try:
                self._check()
            except RunError as error:  # the autoencoder is not there
                return str(error)
        return line

    def open(self, *, seed: int, device: torch.device) -> None:
        self._check()
        self._seed = seed
        self.data.open(seed=seed, device=device)

    def batch(self, start: int, count: int) -> Batch:
        keys = (key("latent", self._seed, position) for position in range(start, start + count))
        return self._drawn(self.data.batch(start, count), keys)

    def examples(self, start: int, count: int) -> Batch:
        keys = (key("latent example", number % len(self)) for number in range(start, start + count))
        return self._drawn(self.data.examples(start, count), keys)

    def _check(self) -> None:
        """Makes sure that the latents are those of the autoencoder that is bound."""
        ours, made_by = self.autoencoder, self.data.made_by().get("autoencoder", "")
        if not made_by:
            raise DataError(
                "EncodedLatents.data: no index says what made its latents: bind a folder that make_shards --encode "
                "wrote, not a pattern"
            )
        if made_by != f"{ours.name} {ours.checksum}":
            name, _, checksum = made_by.rpartition(" ")
            raise DataError(
                f"EncodedLatents.autoencoder = {ours.name} ({ours.checksum[:12]}), but the latents were made by {name} "
                f"({checksum[:12]}): encode the data anew for this teacher"
            )

    def _drawn(self, batch: Batch, keys: Iterable[int]) -> Batch:
        stored = batch.images
        if self.autoencoder.has_deviation:
            stored = drawn(stored, keys)
        return batch._replace(images=in_units(stored, self.latent_scaling))


def refuse_pairs(data: Dataset, who: str) -> None:
    """Raises ValueError if a set gives source images, which `who` would leave as they are."""
    if data.has_sources:
        raise ValueError(f"{who}.data gives pairs, whose source images are no latents: pair two sets by @Unpaired()")


def drawn(stored: Tensor, keys: Iterable[int]) -> Tensor:
    """Latents `[B, C, h, w]` from mean and deviation `[B, 2 C, h, w]`, each with the noise that belongs to its key."""
    mean, deviation = stored.float().chunk(2, dim=1)
    generator = torch.Generator()  # on the CPU: the same noise on every device
    noise = [torch.randn(mean.shape[1:], generator=generator.manual_seed(number)) for number in keys]
    return mean + deviation * torch.stack(noise).to(mean.device)
