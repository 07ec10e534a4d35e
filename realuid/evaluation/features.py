"""Feature networks: what maps images to the numbers in which distributions are compared.

A distance depends on the network in whose features it was measured. So the provenance of each result names the network,
the checksum of its weights and its resizing. `small_classifier.py` has the one that is trained on the data,
`pretrained_features.py` those that were trained elsewhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from realuid import checkpoints
from realuid.data.dataset import Dataset
from realuid.utils.progress import Progress

__all__ = ["FeatureNetwork"]


class FeatureNetwork(nn.Module, ABC):
    """uint8 images [N, C, H, W] in, float features [N, num_features] out, always in evaluation mode and float32.

    Attributes:
        name: what results are recorded with.
        num_features: width of the features.
        resize: how images are resized and scaled for the network; recorded with results.
        reads_labels: whether its classes are those of the data; `predict` works then.
        has_logits: whether it is a classifier; `logits` works then.
        reads_prompts: whether it says how images fit prompts; `scores` works then.
        any_size: whether it looks at images of every size, whatever the size of those that it was prepared for.
    """

    name: str
    num_features: int
    resize: str = "none"
    reads_labels: bool = False
    has_logits: bool = False
    reads_prompts: bool = False
    any_size: bool = False

    @abstractmethod
    def prepare(self, data: Dataset, device: torch.device | str) -> None:
        """Load or make the weights for images like those of `data`, and move them to `device`."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """What `forward` returns; called with images on the network's device, without gradients or autocast."""

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, num_features] of uint8 images [N, C, H, W]; raises TypeError for any other dtype."""
        if images.dtype != torch.uint8:
            # Floats in [-1, 1] and in [0, 1] look alike from here; a silent guess would change every result.
            raise TypeError(f"{self.name} takes uint8 images, not {images.dtype}")
        with self._plain():
            return self.embed(images.to(self.device))

    def extract(self, parts: Iterable[Tensor], count: int) -> Tensor:
        """Features [count, num_features], on the CPU, of as many uint8 images [N, C, H, W] that come in parts."""
        progress, found = Progress(f"images seen by {self.name}", count), []
        for part in parts:
            if len(part):
                found.append(self(part).cpu())
                progress.advance(len(part))
        return torch.cat(found) if found else torch.empty(0, self.num_features)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [N, classes] of features [N, num_features], where `has_logits` is true."""
        raise NotImplementedError(f"{self.name} knows no classes")

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Those of the `names` of what metrics read that it does not give."""
        offered = {"logits": self.has_logits, "scores": self.reads_prompts}
        return [name for name in names if not offered.get(name, True)]

    def scores(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores [N] of features [N, num_features] beside the images' prompts, where `reads_prompts` is true."""
        raise NotImplementedError(f"{self.name} reads no prompts")

    def predict(self, images: Tensor) -> Tensor:
        """Labels [N] (int64) read from uint8 images [N, C, H, W], where `reads_labels` is true."""
        raise NotImplementedError(f"{self.name} reads no labels")

    def check(self, data: Dataset) -> None:
        """Makes sure, before anything is trained, that it can be prepared for images like those of `data`, opened.

        Raises:
            DataError: if it cannot; also what is missing, such as a file of weights, where that is seen at a glance.
        """

    @property
    def device(self) -> torch.device:
        """Where the weights are; raises RuntimeError before `prepare`."""
        for weight in self.state_dict().values():
            return weight.device
        raise RuntimeError(f"{self.name} has no weights yet: call prepare(data, device) first")

    @property
    def checksum(self) -> str:
        """sha256 (hexadecimal) over the names, shapes, types and values of all weights."""
        return checkpoints.checksum(self)

    @contextmanager
    def _plain(self) -> Iterator[None]:
        """Evaluation is called from inside training loops: their autocast must not reach the features."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            yield

    def provenance(self) -> dict[str, object]:
        """What must be equal for two results to be comparable: `network`, `network_sha256` and `resize`."""
        return {"network": self.name, "network_sha256": self.checksum, "resize": self.resize}
