"""Samples with latents in place of their pictures, and with embeddings of their captions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realuid.conditions import Condition, Field
from realuid.conditions.text import TextEncoder
from realuid.data.autoencoders import Autoencoder
from realuid.data.shards.captions import caption_of
from realuid.utils.arrays import npy, npy_file
from realuid.utils.errors import DataError

__all__ = ["Encoding"]

Members = dict[str, Any]
"""Of a sample: bytes by kind, and its key as `__key__`."""
LATENTS = np.float16
"""As which latents are stored: their noise is larger than its rounding."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Makes the members of an encoded set from those of a set of pictures and captions.

    Attributes:
        encoder: of the captions.
        autoencoder: of the pictures; a set without pictures leaves it unused.
        batch: samples that are encoded at once.
    """

    encoder: TextEncoder
    autoencoder: Autoencoder
    batch: int = 16

    @property
    def conditions(self) -> tuple[Field, ...]:
        """The fields that every encoded sample has."""
        return self.encoder.fields

    def made_by(self, *, pictures: bool) -> dict[str, str]:
        """Names and checksums, as an index has them."""
        made = {"text": self.encoder} | ({"autoencoder": self.autoencoder} if pictures else {})
        return {part: f"{encoder.name} {encoder.checksum}" for part, encoder in made.items()}

    def encoded(self, samples: Iterable[Members]) -> Iterator[Members]:
        """The samples in their order: `npy` holds the latents, float16 `[2 C, h, w]` or `[C, h, w]`, a member of each
        field its array. Captions stay what they are.

        Args:
            samples: with their caption, and their picture as an `npy` of uint8 `[3 or 1, H, W]` if they have one.

        Raises:
            DataError: if latents are too large to be stored.
        """
        remaining = iter(samples)
        while part := list(itertools.islice(remaining, self.batch)):
            condition = self.encoder([caption_of(members) or "" for members in part])
            latents = self._latents(part) if "npy" in part[0] else [None] * len(part)
            for row, (members, latent) in enumerate(zip(part, latents, strict=True)):
                yield members | _image(members["__key__"], latent) | _fields(condition, row, self.conditions)

    def _latents(self, part: list[Members]) -> list[NDArray[Any] | None]:
        pictures = torch.stack([torch.from_numpy(npy(members["npy"]).copy()).expand(3, -1, -1) for members in part])
        return list(self.autoencoder(pictures).numpy())


def _image(key: str, latent: NDArray[Any] | None) -> Members:
    if latent is None:
        return {}
    stored = latent.astype(LATENTS)
    if not np.isfinite(stored).all():
        raise DataError(f"sample {key}: its latents reach {np.abs(latent).max():.3g}, more than float16 holds")
    return {"npy": npy_file(stored)}


def _fields(condition: Condition, row: int, fields: Iterable[Field]) -> Members:
    return {f"{field.name}.npy": npy_file(_array(condition[field.name][row])) for field in fields}


def _array(tensor: Tensor) -> NDArray[Any]:
    """numpy's array of a field; bfloat16, which numpy lacks, as its 16 bits."""
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
