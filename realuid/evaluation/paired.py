"""Metrics of image pairs: how near the image made from a source is to the real image that belongs to it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from realuid.data.pixels import to_float
from realuid.evaluation.accumulator import Accumulator
from realuid.utils.errors import DataError

__all__ = ["LPIPS", "PSNR", "SSIM"]


class PairMetric(Accumulator, ABC):
    """Sums over pairs, so that batches and ranks may share them out; uint8 images on both sides.

    Attributes:
        name: of what `compute` returns.
        higher_is_better: whether it rises with quality.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0, dtype=torch.float64))
        self.add_state("count", default=torch.tensor(0.0, dtype=torch.float64))

    def settings(self) -> dict[str, object]:
        """What two values must share beside the images to be comparable."""
        return {}

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raises DataError if images of this shape (C, H, W) cannot be compared; seen at a glance, before training."""

    def prepare(self, shape: tuple[int, int, int], device: torch.device | str) -> None:
        """Makes ready for images of this shape (C, H, W); raises DataError if that cannot be."""
        self.check(shape)

    @abstractmethod
    def contribution(self, images: Tensor, truth: Tensor) -> tuple[Tensor, float]:
        """What pairs `[n, C, H, W]` add to the total, and how much weight that has."""

    def update(self, images: Tensor, truth: Tensor) -> None:
        """Adds pairs of uint8 images `[n, C, H, W]`.

        Raises:
            TypeError: if they are not uint8.
        """
        if images.dtype != torch.uint8 or truth.dtype != torch.uint8:
            raise TypeError(f"{type(self).__name__} takes uint8 images, not {images.dtype} and {truth.dtype}")
        if len(images):
            total, weight = self.contribution(images.to(self.device), truth.to(self.device))
            self.states["total"] += total.double()
            self.states["count"] += weight

    def compute(self) -> float:
        return (self.states["total"] / self.states["count"]).item()


class PSNR(PairMetric):
    """`psnr`: 10 log10(255^2 / mean squared error) in dB, over all pixels together; 148 between equal images."""

    name = "psnr"
    higher_is_better = True

    def contribution(self, images: Tensor, truth: Tensor) -> tuple[Tensor, float]:
        return (images.double() - truth.double()).square().sum(), images.numel()

    def compute(self) -> float:
        return 10 * math.log10(255**2 / max(super().compute(), 1e-10))


class SSIM(PairMetric):
    """`ssim`: structural similarity (Wang et al., 2004) through a Gaussian window of 11 pixels, sigma 1.5, range 255,
    mean over the images; only where the window lies inside the image, as in the paper."""

    name = "ssim"
    higher_is_better = True

    def check(self, shape: tuple[int, int, int]) -> None:
        if min(shape[1:]) < 11:
            raise DataError(f"SSIM looks through a window of 11 pixels: images of {shape[1]}x{shape[2]} are too small")

    def contribution(self, images: Tensor, truth: Tensor) -> tuple[Tensor, float]:
        from torchmetrics.functional.image import (
            structural_similarity_index_measure,  # imported where needed: it is slow
        )

        _, full = structural_similarity_index_measure(
            images.float(), truth.float(), data_range=255.0, reduction="none", return_full_image=True
        )
        # Elsewhere the window reaches over the edge, which torchmetrics mirrors.
        assert isinstance(full, Tensor)
        return full[..., 5:-5, 5:-5].flatten(1).mean(dim=1).sum(), len(images)


class LPIPS(PairMetric):
    """`lpips`: distance in the features of a classifier (Zhang et al., 2018, arXiv:1801.03924), through torchmetrics.

    Needs torchvision, and its backbone's weights, which torchvision downloads once (or which lie in
    `$TORCH_HOME/hub/checkpoints`).

    Args:
        network: `alex`, `vgg` or `squeeze`.
    """

    name = "lpips"
    higher_is_better = False

    def __init__(self, *, network: str = "alex") -> None:
        if network not in ("alex", "vgg", "squeeze"):
            raise ValueError(f"LPIPS.network is alex, vgg or squeeze, not {network!r}")
        self.network = network
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {"network": self.network}

    def prepare(self, shape: tuple[int, int, int], device: torch.device | str) -> None:
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            metric = LearnedPerceptualImagePatchSimilarity(self.network, reduction="sum")  # type: ignore[arg-type]
        except Exception as error:  # not installed, or not to be downloaded: every layer has errors of its own
            raise DataError(
                f"LPIPS needs torchvision and the weights of its {self.network} network: {error}"
            ) from error
        # A list: the network is no part of the metric, whose state goes into no checkpoint.
        self._judge = [metric.to(device).eval()]

    def contribution(self, images: Tensor, truth: Tensor) -> tuple[Tensor, float]:
        (metric,) = self._judge
        metric.reset()
        sides = (to_float(side).expand(-1, 3, -1, -1) for side in (images, truth))
        with torch.no_grad():
            metric.update(*sides)
        return metric.compute(), len(images)
