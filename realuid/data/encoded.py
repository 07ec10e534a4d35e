"""Pictures and captions, encoded while a model is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from realuid.conditions import Condition, Field
from realuid.conditions.caption import CAPTION, texts
from realuid.conditions.text import TextEncoder
from realuid.data.autoencoders import Autoencoder
from realuid.data.dataset import Batch, Dataset, Scaling, Wrapped
from realuid.data.encoded_latents import drawn, refuse_pairs
from realuid.data.latents import in_units
from realuid.utils.errors import DataError, RunError
from realuid.utils.keys import key

__all__ = ["Encoded"]


class Encoded(Wrapped):
    """Latents and embeddings of a set of pictures and captions, made whenever a sample is read. `EncodedLatents` reads
    those that were made once; this is for sets whose embeddings would not fit anywhere.

    Where the autoencoder gives mean and deviation, a latent is drawn from them anew, as by `EncodedLatents`. The
    encoders compute in the process that trains: what reads the pictures ahead (`Prefetched`) goes inside.

    Args:
        data: uint8 pictures, with `@Caption()` among their conditions.
        encoder: of the captions.
        autoencoder: of the pictures.
        shape: of the latents, (C, h, w); checked, never adapted to.

    Raises:
        ValueError: if the set gives no captions, or pairs, or arrays that are no pictures.
    """

    def __init__(
        self, *, data: Dataset, encoder: TextEncoder, autoencoder: Autoencoder, shape: tuple[int, int, int]
    ) -> None:
        super().__init__(data)
        if all(field.name != CAPTION for field in data.conditions):
            raise ValueError(f"the set gives no captions: bind {type(data).__name__}.conditions = (@Caption(),)")
        refuse_pairs(data, "Encoded")
        if data.shape[0] not in (1, 3):
            raise ValueError(f"Encoded.data gives arrays of {data.shape[0]} channels, which are no pictures")
        self.encoder: TextEncoder = encoder
        self.autoencoder, self.shape = autoencoder, shape

    @property
    def conditions(self) -> tuple[Field, ...]:
        others = tuple(field for field in self.data.conditions if field.name != CAPTION)
        return (*others, *self.encoder.fields)

    @property
    def latent_scaling(self) -> Scaling:
        return self.autoencoder.units

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"encoded {self.data.checksum} {self._encoders()}".encode()).hexdigest()

    def _encoders(self) -> str:
        return f"{self.encoder.checksum} {self.autoencoder.checksum}"

    def missing(self) -> str | None:
        line = self.data.missing()
        if line is None:
            try:
                self._encoders()
            except RunError as error:  # they are not there
                return str(error)
        return line

    def open(self, *, seed: int, device: torch.device) -> None:
        self._seed = seed
        self.data.open(seed=seed, device=device)

    def batch(self, start: int, count: int) -> Batch:
        keys = (key("latent", self._seed, position) for position in range(start, start + count))
        return self._encoded(self.data.batch(start, count), keys)

    def examples(self, start: int, count: int) -> Batch:
        keys = (key("latent example", number % len(self)) for number in range(start, start + count))
        return self._encoded(self.data.examples(start, count), keys)

    def condition_batch(self, start: int, count: int) -> Condition:
        return self._told(self.data.condition_batch(start, count))

    def condition_examples(self, start: int, count: int) -> Condition:
        return self._told(self.data.condition_examples(start, count))

    def _told(self, condition: Condition) -> Condition:
        captions = condition[CAPTION]
        told = dict(self.encoder(texts(captions)).to(captions.device))
        return Condition({name: tensor for name, tensor in condition.items() if name != CAPTION} | told)

    def _encoded(self, batch: Batch, keys: Iterable[int]) -> Batch:
        latents = self.autoencoder(_coloured(batch.images))
        if self.autoencoder.has_deviation:
            latents = drawn(latents, keys)
        if tuple(latents.shape[1:]) != tuple(self.shape):
            raise DataError(
                f"Encoded.shape is {tuple(self.shape)}, but pictures of {tuple(batch.images.shape[1:])} give latents "
                f"of {tuple(latents.shape[1:])}"
            )
        return Batch(in_units(latents, self.latent_scaling).to(batch.images.device), self._told(batch.condition))


def _coloured(pictures: Tensor) -> Tensor:
    """In three channels."""
    if pictures.dtype != torch.uint8:
        raise DataError(f"Encoded.data gives {pictures.dtype} arrays, not uint8 pictures")
    return pictures.expand(-1, 3, -1, -1)
