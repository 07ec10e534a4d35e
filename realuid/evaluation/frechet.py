"""The Frechet distance between two sets of images, through torchmetrics.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)),    m, S = mean and covariance (n - 1) of the features

(Dowson and Landau, 1982; as a measure of generated images Heusel et al., 2017, arXiv:1706.08500.)
"""

from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from realuid.evaluation.features import FeatureNetwork

__all__ = ["FrechetReference", "frechet_distance"]


class _Float64(nn.Module):
    """torchmetrics returns its result in the type of the features: float32 would round it to seven digits."""

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network
        self.num_features = network.num_features  # without it torchmetrics pushes a random image through the network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).double()


class FrechetReference:
    """The statistics of one set of images, computed once, to which other sets are compared.

    Args:
        network: prepared feature network.
        reference: uint8 images [N, C, H, W], N >= 2.
        batch: images a pass through the network.
    """

    def __init__(self, network: FeatureNetwork, reference: Tensor, batch: int = 500) -> None:
        self.batch = batch
        # normalize=True would truncate floats to bytes where uint8 is exact; sync_on_compute=False: a distance is that
        # of the images given, so that one rank alone may ask for it without waiting for the others.
        self._metric = FrechetInceptionDistance(
            feature=_Float64(network), normalize=False, reset_real_features=False, sync_on_compute=False
        ).to(network.device)
        self._update(reference, real=True)

    def distance(self, images: Tensor) -> float:
        """Frechet distance of uint8 images [M, C, H, W], M >= 2, to the reference.

        Raises:
            TypeError: the images are not uint8.
            ValueError: fewer than two images.
        """
        self._metric.reset()  # keeps the reference
        self._update(images, real=False)
        return max(self._metric.compute().item(), 0.0)  # equal sets come out at zero plus or minus rounding

    def _update(self, images: Tensor, *, real: bool) -> None:
        if len(images) < 2:
            raise ValueError(f"a Frechet distance needs at least 2 images on either side, got {len(images)}")
        for part in images.split(self.batch):
            self._metric.update(part, real=real)


def frechet_distance(network: FeatureNetwork, reference: Tensor, images: Tensor, batch: int = 500) -> float:
    """Frechet distance between two sets of uint8 images [N, C, H, W] and [M, C, H, W]; see `FrechetReference`."""
    return FrechetReference(network, reference, batch).distance(images)
