"""Whether data come in the units that a foreign checkpoint was trained on."""

from __future__ import annotations

import torch

from realuid.data.dataset import Dataset
from realuid.pretrained.conventions import Convention, Foreign
from realuid.utils.errors import CheckpointError


def check_scaling(foreign: Foreign, data: Dataset, origin: str) -> None:
    """Compares pixels or latents, and how these were shifted and scaled.

    Args:
        foreign: what was read; its weights are not needed.
        data: what its model meets.
        origin: name of the file, for messages.

    Raises:
        CheckpointError: one line that names the binding.
    """
    if not data.has_images:
        return
    given = "pixels" if data.latent_scaling is None else f"latents of deviation {data.latent_scaling[1]}"
    if foreign.scaling.name == "pixels":
        if data.latent_scaling is not None:
            raise CheckpointError(f"{origin} ({foreign.format}) is a model of pixels, Trainer.data gives {given}")
        return
    mean, deviation = latent_units(foreign)
    right = f"bind Trainer.data to Latents with mean = {mean} and deviation = {deviation}"
    if data.latent_scaling is None or not all(
        _same(mine, theirs, data.shape[0]) for mine, theirs in zip((mean, deviation), data.latent_scaling, strict=True)
    ):
        raise CheckpointError(f"{origin} ({foreign.format}) is a model of latents, Trainer.data gives {given}: {right}")


def latent_units(foreign: Foreign) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of `Latents` that its latents come to: (x - shift) * factor."""
    shift, deviation = units(foreign.scaling)
    return shift, tuple(float(f"{value:.6g}") for value in deviation)


def units(scaling: Convention) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of an autoencoder's latents, for all channels or for each."""
    factor, shift = _numbers(scaling.numbers["factor"]), _numbers(scaling.numbers["shift"])
    return shift, tuple(1 / value for value in factor)


def _numbers(value: float | list[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (float(value),)


def _same(mine: tuple[float, ...], theirs: tuple[float, ...], channels: int) -> bool:
    one, other = (torch.tensor(values, dtype=torch.float64).expand(channels) for values in (mine, theirs))
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)
