"""Baselines: distances between sets whose difference is known, in the same features. A model's distance is read beside
them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from realuid.evaluation.metric import OF_IMAGES, Metric
from realuid.evaluation.real_images import RealImages
from realuid.utils.keys import key

__all__ = ["gaussian_images", "halves"]

LARGEST = 4096
"""Pixels of an image up to which a Gaussian of their covariance is drawn."""


def halves(metrics: Sequence[Metric], real: RealImages, seed: int) -> dict[str, float]:
    """`halves_<name>`: the distance between two random halves of the real images, mean over `Metric.halves` divisions.

    Both halves have the distribution of the data. Their distance is due to the number of images alone.

    Args:
        metrics: all of an evaluation; only distances (`Metric.halves` > 0) are measured.
        real: the real images.
        seed: of the divisions.

    Returns:
        The values by name.
    """
    generator = torch.Generator().manual_seed(key("halves", seed))
    divisions = [_halves(real.count, generator) for _ in range(max((m.halves for m in metrics), default=0))]
    values = {}
    for metric in (metric for metric in metrics if metric.halves):
        whole, name = real.gathered(metric.names_of_real), metric.names[0]
        found = []
        for division in divisions[: metric.halves]:
            one, two = ({name: x[rows.to(x.device)] for name, x in whole.items()} for rows in division)
            found.append(metric.measure(one, two)[name])
        values[f"halves_{name}"] = sum(found) / len(found)
    return values


def _halves(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    one, other = torch.randperm(count, generator=generator).tensor_split(2)
    return one, other


def drawable(shape: tuple[int, ...]) -> bool:
    """Whether images of this shape are small enough for `gaussian_images`."""
    return math.prod(shape) <= LARGEST


def sees_images_alone(metric: Metric) -> bool:
    """Whether a metric is a distance that needs no condition of the generated images."""
    return metric.halves > 0 and set(metric.reads) <= OF_IMAGES


def gaussian_images(
    parts: Iterable[Tensor], shape: tuple[int, ...], count: int, seed: int, device: torch.device | str
) -> Tensor:
    """Gaussian images with the pixel mean and covariance of given ones, uint8 `[count, C, H, W]`.

    Their distance to the real images is that of a model with the right mean and covariance and nothing else.

    Args:
        parts: the given images, uint8 `[n, C, H, W]` at a time.
        shape: (C, H, W).
        count: of the images to draw.
        seed: of the draws.
        device: where the covariance is computed.
    """
    size, given = math.prod(shape), 0
    total = torch.zeros(size, dtype=torch.float64, device=device)
    outer = torch.zeros(size, size, dtype=torch.float64, device=device)
    for images in parts:
        part = images.to(device).flatten(1).double()
        total += part.sum(dim=0)
        outer += part.T @ part
        given += len(part)
    mean = total / given
    covariance = (outer - given * torch.outer(mean, mean)) / (given - 1)
    # Pixels that never vary make it singular, so by eigenvectors and not by Cholesky.
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()).cpu()
    generator = torch.Generator().manual_seed(key("pixel Gaussian", seed))
    samples = torch.randn(count, size, dtype=torch.float64, generator=generator) @ root.T + mean.cpu()
    return samples.round().clamp(0, 255).to(torch.uint8).unflatten(1, shape)
