"""A data set and feature networks whose every number is known."""

import torch

from realuid.conditions import labelled
from realuid.data.dataset import Batch, Dataset
from realuid.evaluation.features import FeatureNetwork


class Given(Dataset):
    """A data set of the images and labels it is given, and of source images if there are any."""

    def __init__(self, images, labels, checksum="given", sources=None):
        self._images, self._labels, self._checksum, self._sources = images, labels, checksum, sources
        self.shape = tuple(images.shape[1:])
        self.classes = int(labels.max()) + 1
        self.has_sources = sources is not None

    def missing(self):
        return None

    def open(self, *, seed, device):
        pass

    def __len__(self):
        return len(self._images)

    @property
    def images(self):
        return self._images

    @property
    def labels(self):
        return self._labels

    @property
    def label_counts(self):
        return torch.bincount(self._labels, minlength=self.classes)

    @property
    def checksum(self):
        return self._checksum

    def batch(self, start, count):
        raise NotImplementedError

    def examples(self, start, count):
        rows = torch.arange(start, start + count) % len(self)
        return Batch(self._images, labelled(self._labels), self._sources).take(rows)


class Pixels(FeatureNetwork):
    """The pixels themselves, as float32: what a feature network may be at its simplest."""

    name, num_features = "pixels", 4

    def __init__(self):
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1))
        self.seen = 0

    def prepare(self, data, device):
        pass

    def embed(self, images):
        self.seen += len(images)
        return images.flatten(1).float()


class Pooled(Pixels):
    """The means of four quarters, of images of every size."""

    name, any_size = "pooled", True

    def embed(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
