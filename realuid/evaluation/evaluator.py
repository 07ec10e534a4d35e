"""The evaluator: one feature network, one reference set, and the yardsticks that make its numbers readable."""

from collections.abc import Callable

import torch
from torch import Tensor

from realuid.data.dataset import Dataset
from realuid.evaluation import draws
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.frechet import FrechetReference, frechet_distance
from realuid.keys import key

__all__ = ["Evaluator"]


class Evaluator:
    """Compares generated images with all real images of a data set.

    Nothing here reads or moves the global random state, and nothing is shared between processes: call it on one rank.

    Args:
        features: network in whose features distributions are compared.
        count: generated images of an evaluation. A Frechet distance falls with it: it is part of the stamp.
        seed: of noise, labels and yardsticks.
        batch: images a pass, through the generator as through the feature network; changes no result beyond rounding.
    """

    def __init__(self, *, features: FeatureNetwork, count: int = 5000, seed: int = 0, batch: int = 500) -> None:
        if count < 2 or batch < 1:
            raise ValueError(f"Evaluator needs count >= 2 and batch >= 1, got {count} and {batch}")
        self.features, self.count, self.seed, self.batch = features, count, seed, batch

    def prepare(self, data: Dataset, device: torch.device | str) -> None:
        """Make the network ready and compute the statistics of all images of `data`; call once, before the rest."""
        self.data, self.device = data, device
        self.features.prepare(data, device)
        self._reference = FrechetReference(self.features, data.images, self.batch)

    @property
    def labels(self) -> Tensor:
        """Labels [count] (int64, CPU) of the images that `generate` returns."""
        return draws.balanced_labels(self.data.label_counts, 0, self.count)

    def generate(self, sample_fn: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """uint8 images [count, C, H, W] from seeded noise of the data's shape and `labels`; see `draws.generate`."""
        return draws.generate(
            sample_fn,
            shape=self.data.shape,
            label_counts=self.data.label_counts,
            count=self.count,
            seed=self.seed,
            batch=self.batch,
            device=self.device,
        )

    def frechet(self, images: Tensor) -> float:
        """Frechet distance of uint8 images [N, C, H, W] to all real images."""
        return self._reference.distance(images)

    def agreement(self, images: Tensor, labels: Tensor) -> float:
        """Share in [0, 1] of uint8 images [N, C, H, W] that the feature network reads as their `labels` [N].

        Raises:
            NotImplementedError: the network reads no labels (`features.reads_labels` is false).
        """
        return (self.features.predict(images) == labels.cpu()).double().mean().item()

    def yardsticks(self, splits: int = 10) -> dict[str, float]:
        """Two distances to read others by, both in the same features as `frechet`.

        `halves_frechet`: between two random halves of the real data, mean over `splits` divisions: what the size of
        the data alone costs. `pixel_gaussian_frechet`: of `count` samples of a Gaussian with the data's pixel mean and
        covariance: what getting the first two moments right, and nothing else, is worth.
        """
        generator = torch.Generator().manual_seed(key("halves", self.seed))
        images = self.data.images
        halves = 0.0
        for _ in range(splits):
            one, other = torch.randperm(len(images), generator=generator).tensor_split(2)
            halves += frechet_distance(self.features, images[one], images[other], self.batch) / splits
        return {"halves_frechet": halves, "pixel_gaussian_frechet": self.frechet(self._pixel_gaussian())}

    def stamp(self, **extra: object) -> dict[str, object]:
        """Everything two results must share to be comparable: network, count, seed, reference and what is passed."""
        return dict(
            **self.features.stamp(),
            count=self.count,
            seed=self.seed,
            reference=self.data.checksum,
            reference_count=len(self.data.images),
            **extra,
        )

    def _pixel_gaussian(self) -> Tensor:
        """`count` Gaussian images with the pixel mean and covariance of the data, uint8 [count, C, H, W]."""
        flat = self.data.images.flatten(1)
        size = flat.shape[1]
        total = torch.zeros(size, dtype=torch.float64, device=flat.device)
        outer = torch.zeros(size, size, dtype=torch.float64, device=flat.device)
        for part in flat.split(self.batch):  # in parts: all images in float64 would be eight times the data
            total += part.double().sum(dim=0)
            outer += part.double().T @ part.double()
        mean = total / len(flat)
        covariance = (outer - len(flat) * torch.outer(mean, mean)) / (len(flat) - 1)
        # Pixels that never vary make it singular, so by eigenvectors and not by Cholesky.
        values, vectors = torch.linalg.eigh(covariance)
        root = (vectors * values.clamp(min=0).sqrt()).cpu()
        generator = torch.Generator().manual_seed(key("pixel Gaussian", self.seed))
        samples = torch.randn(self.count, size, dtype=torch.float64, generator=generator) @ root.T + mean.cpu()
        return samples.round().clamp(0, 255).to(torch.uint8).unflatten(1, self.data.shape)
