"""The evaluator: one feature network, one reference, metrics, and the yardsticks that make their figures readable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from realuid.data.dataset import Dataset
from realuid.data.location import locate
from realuid.errors import DataError
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.frechet import Frechet, Moments, frechet_distance
from realuid.evaluation.inputs import Inputs, SampleFn, generate
from realuid.evaluation.metric import FeatureMetric
from realuid.evaluation.paired import PSNR, PairMetric
from realuid.evaluation.reference import Reference, read_reference
from realuid.evaluation.store import FeatureStore
from realuid.keys import key

__all__ = ["Evaluator"]

PIXEL_GAUSSIAN = 4096
"""Pixels of an image up to which a Gaussian of their covariance is drawn."""


class Evaluator:
    """Compares generated images with real ones: all of a data set, or those of a reference file.

    Features are extracted once for all metrics; those of the real images are kept on disk. Nothing here reads or moves
    the global random state.

    Args:
        features: network in whose features distributions are compared.
        metrics: what is measured in them; by the first one, models are ranked. None for `Frechet` alone.
        pair_metrics: what is measured of models that start from an image and are to hit the real one that belongs to
            it. None for `PSNR` alone.
        reference: path or URL of an npz of reference statistics (`realuid.evaluation.reference`); None for all images
            of the run's data set.
        count: generated images of an evaluation. A Frechet distance falls with it: it is part of the stamp.
        quick_count: generated images of an evaluation during training; None for `count`.
        seed: of noise, labels and yardsticks.
        batch: images a pass, through the generator as through the feature network; changes no result beyond rounding.
        cache: local folder where features of real images are kept; by default `features` inside `REALUID_DATA`.

    Raises:
        ValueError: if a number is too small, there is no metric, or the network cannot give what a metric reads.
    """

    def __init__(
        self,
        *,
        features: FeatureNetwork,
        metrics: Sequence[FeatureMetric] | None = None,
        pair_metrics: Sequence[PairMetric] | None = None,
        reference: str | None = None,
        count: int = 5000,
        quick_count: int | None = None,
        seed: int = 0,
        batch: int = 500,
        cache: str | None = None,
    ) -> None:
        if count < 2 or batch < 1:
            raise ValueError(f"Evaluator needs count >= 2 and batch >= 1, got {count} and {batch}")
        if quick_count is not None and not 2 <= quick_count <= count:
            raise ValueError(f"Evaluator.quick_count must be at least 2 and at most count, got {quick_count}")
        self.metrics = [Frechet()] if metrics is None else list(metrics)
        self.pair_metrics = [PSNR()] if pair_metrics is None else list(pair_metrics)
        if not self.metrics:
            raise ValueError("Evaluator.metrics names no metric")
        names = [name for metric in self.metrics for name in metric.figures] + [m.figure for m in self.pair_metrics]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"Evaluator: {', '.join(sorted(twice))} would be measured twice")
        for metric in self.metrics:
            if metric.reads == "logits" and not features.has_logits:
                raise ValueError(f"{type(metric).__name__} reads class logits, which {features.name} does not give")
        self.features, self.reference = features, reference
        self.count, self.quick_count, self.seed, self.batch = count, quick_count or count, seed, batch
        self.cache = cache

    @property
    def ranking(self) -> FeatureMetric:
        """The metric that models are ranked by."""
        return self.metrics[0]

    def prepare(self, data: Dataset, device: torch.device | str, rank: int = 0, world: int = 1) -> None:
        """Make the network ready and look at the real images; call once, before the rest.

        Args:
            data: opened.
            rank: of this process among `world`. With more than one, each extracts its share of the features, and every
                call below must be made on all of them.

        Raises:
            DataError, CheckpointError: if weights or reference are not to be had, or do not fit.
        """
        self.data, self.device, self.rank, self.world = data, device, rank, world
        self.features.prepare(data, device)
        for metric in (*self.metrics, *self.pair_metrics):
            metric.to(device)
        for metric in self.pair_metrics if data.has_sources else ():
            metric.prepare(data.shape, device)
        self._file = None if self.reference is None else read_reference(self.reference)
        self._real = self._look_at_real(self._file)
        self._network = self.features.stamp()
        if self._file is not None:
            self._file.check(self._network, self.features.num_features, str(self.reference))
        for metric in self.metrics:
            if self._file is not None and self._file.moments is not None and isinstance(metric, Frechet):
                metric.refer_to(self._file.moments)
            elif metric.needs_real:
                if self._real is None:
                    raise DataError(
                        f"{self.reference} holds mean and covariance alone: {type(metric).__name__} needs real images"
                    )
                metric.update(self._read(metric, self._real), self._rows(self._real_count), real=True)

    def _look_at_real(self, file: Reference | None) -> Tensor | None:
        """Features of this rank's share of the real images, `[n, d]` on the CPU; None where there are only moments."""
        if file is not None and file.images is None:
            return None
        self._real_count = len(self.data) if file is None or file.images is None else len(file.images)
        share = _share(self._real_count, self.rank, self.world)
        images = self.data.checksum if file is None else file.sha256
        folder = self.cache or locate("features")
        if "://" in folder:
            raise DataError(f"{folder} is no local folder: bind Evaluator.cache to one")
        label = {**self.features.stamp(), "of": images, "first": share.start, "last": share.stop}
        if file is None:
            return FeatureStore(folder).get(label, lambda: self._extracted(self._images(share)))
        assert file.images is not None
        parts = file.images[share.start : share.stop].split(self.batch)
        return FeatureStore(folder).get(label, lambda: self._extracted(parts))

    def _extracted(self, parts: Iterator[Tensor] | Sequence[Tensor]) -> Tensor:
        """Features `[n, d]` of parts of a set of uint8 images, on the CPU."""
        found = [self.features(part).cpu() for part in parts if len(part)]
        return torch.cat(found) if found else torch.empty(0, self.features.num_features)

    def _read(self, metric: FeatureMetric, features: Tensor) -> Tensor:
        """What a metric reads of features `[n, d]`."""
        on_device = features.to(self.features.device)
        return self.features.logits(on_device) if metric.reads == "logits" else on_device

    def _rows(self, count: int) -> Tensor:
        """Numbers of this rank's images among `count`."""
        share = _share(count, self.rank, self.world)
        return torch.arange(share.start, share.stop)

    def first(self, quick: bool = False) -> int:
        """Number of the first image that this rank generates."""
        return _share(self.quick_count if quick else self.count, self.rank, self.world).start

    def generate(self, sample_fn: SampleFn, inputs: Inputs, *, quick: bool = False) -> Tensor:
        """uint8 images [count, C, H, W] on the CPU (of several ranks: this one's share); see `inputs.generate`."""
        share = _share(self.quick_count if quick else self.count, self.rank, self.world)
        size = len(share)
        return generate(sample_fn, inputs, start=share.start, count=size, batch=self.batch, device=self.device)

    def judge(
        self,
        images: Tensor,
        *,
        labels: Tensor | None = None,
        paired: bool = False,
        quick: bool = False,
        ranking: bool = False,
    ) -> dict[str, float]:
        """All figures of uint8 images [N, C, H, W], those that `generate` gave.

        Args:
            labels: classes [N] that were asked for, to be read again where the network reads the data's (`agreement`).
            paired: whether image i was made from the source image i, to which a real image belongs.
            quick: whether these are the `quick_count` images of an evaluation during training.
            ranking: measure the ranking metric alone, of those in feature space.
        """
        features = self.extract(images)
        return self.judge_features(features, images, labels=labels, paired=paired, quick=quick, ranking=ranking)

    def judge_features(
        self,
        features: Tensor,
        images: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        paired: bool = False,
        quick: bool = False,
        ranking: bool = False,
    ) -> dict[str, float]:
        """`judge` of images whose features [N, d] were extracted before; they themselves are needed for pairs alone."""
        first = self.first(quick)
        rows = torch.arange(len(features)) + first
        figures: dict[str, float] = {}
        for metric in self.metrics[:1] if ranking else self.metrics:
            figures |= self._measured(metric, features, rows)
        if labels is not None and self.features.reads_labels:
            read = self.features.logits(features.to(self.features.device)).argmax(dim=1).cpu()
            figures["agreement"] = self._mean((read == labels.cpu()).double())
        if paired and images is not None:
            figures |= self._pairs(images, first)
        return figures

    def _measured(self, metric: FeatureMetric, features: Tensor, rows: Tensor) -> dict[str, float]:
        metric.reset()
        metric.update(self._read(metric, features), rows, real=False)
        figures = self._computed(metric)
        metric.reset()  # or the features would stay in memory
        return figures

    def _pairs(self, images: Tensor, first: int) -> dict[str, float]:
        for metric in self.pair_metrics:
            metric.reset()
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            truth = self.data.examples(first + start, len(part)).images
            for metric in self.pair_metrics:
                metric.update(part, truth)
        return {metric.figure: self._computed(metric) for metric in self.pair_metrics}

    def _computed(self, metric: Metric) -> Any:
        """What a metric says of all ranks' images."""
        if self.world == 1:
            return metric.compute()
        with metric.sync_context():
            return metric.compute()

    def _mean(self, values: Tensor) -> float:
        """Mean over all ranks' values [n]."""
        return torch.cat(self._gathered(values.to(self.features.device))).mean().item()

    def _gathered(self, local: Tensor) -> list[Tensor]:
        return gather_all_tensors(local) if self.world > 1 else [local]

    def extract(self, images: Tensor) -> Tensor:
        """Features [N, d] of uint8 images [N, C, H, W], on the CPU."""
        return self._extracted(images.split(self.batch))

    def moments(self) -> Moments:
        """Mean and covariance of the reference."""
        if self._file is not None and self._file.moments is not None:
            return self._file.moments
        return Moments.of(self._all_real())

    def frechet(self, images: Tensor) -> float:
        """Frechet distance of uint8 images [N, C, H, W] to the reference."""
        made = Moments.of(self.extract(images).to(self.features.device))
        return frechet_distance(made, self.moments())

    def agreement(self, images: Tensor, labels: Tensor) -> float:
        """Share in [0, 1] of uint8 images [N, C, H, W] that the feature network reads as their `labels` [N].

        Raises:
            NotImplementedError: the network reads no labels (`features.reads_labels` is false).
        """
        return (self.features.predict(images) == labels.cpu()).double().mean().item()

    def yardsticks(self) -> dict[str, float]:
        """Distances to read others by, for each metric that is a distance, in the same features.

        `halves_<figure>`: between two random halves of the real images, mean over some divisions: what the size of the
        data alone costs. `pixel_gaussian_<figure>`: of `count` samples of a Gaussian with the data's pixel mean and
        covariance: what getting the first two moments right, and nothing else, is worth; left out for large images.
        """
        distances = {metric.figures[0]: metric for metric in self.metrics if metric.halves}
        figures: dict[str, float] = {}
        if self._real is not None and distances:
            real = self._all_real()
            generator = torch.Generator().manual_seed(key("halves", self.seed))
            divisions = [
                _halves(len(real), generator) for _ in range(max(metric.halves for metric in distances.values()))
            ]
            for name, metric in distances.items():
                sides = [
                    (real[one.to(real.device)], real[two.to(real.device)]) for one, two in divisions[: metric.halves]
                ]
                figures[f"halves_{name}"] = sum(metric.judge(*pair)[name] for pair in sides) / len(sides)
        if math.prod(self.data.shape) <= PIXEL_GAUSSIAN and distances:
            rows = self._rows(self.count)
            features = self.extract(self._pixel_gaussian()[rows])
            for name, metric in distances.items():
                figures[f"pixel_gaussian_{name}"] = self._measured(metric, features, rows)[name]
        return figures

    def stamp(self, metric: FeatureMetric | None = None, *, quick: bool = False, **extra: object) -> dict[str, object]:
        """Everything two results must share to be comparable, and what is passed: see `realuid.evaluation.stamps`.

        Args:
            metric: whose settings are stamped, too; None for the ranking metric.
            quick: of a figure measured during training.
        """
        settings = (metric or self.ranking).settings()
        return dict(
            **self._network,
            count=self.quick_count if quick else self.count,
            seed=self.seed,
            reference=self.data.checksum if self._file is None else self._file.sha256,
            reference_count=len(self.data) if self._file is None else self._file.count,
            **({"settings": settings} if settings else {}),
            **extra,
        )

    def stamps(self, role: str, **extra: Any) -> dict[str, dict[str, Any]]:
        """Stamps of all figures of a role, by the name of each metric's first: `<role>_<figure>`."""
        return {f"{role}_{metric.figures[0]}": self.stamp(metric, **extra) for metric in self.metrics}

    def _all_real(self) -> Tensor:
        """Features of all real images, `[N, d]` on the device."""
        assert self._real is not None
        return torch.cat(self._gathered(self._real.to(self.features.device)))

    def _images(self, rows: range) -> Iterator[Tensor]:
        """Real images, uint8 [n, C, H, W] at a time, in the order of storage."""
        for start in range(rows.start, rows.stop, self.batch):
            yield self.data.examples(start, min(self.batch, rows.stop - start)).images

    def _pixel_gaussian(self) -> Tensor:
        """`count` Gaussian images with the pixel mean and covariance of the data, uint8 [count, C, H, W]."""
        size, count = math.prod(self.data.shape), len(self.data)
        total = torch.zeros(size, dtype=torch.float64, device=self.device)
        outer = torch.zeros(size, size, dtype=torch.float64, device=self.device)
        for images in self._images(range(count)):
            part = images.to(self.device).flatten(1).double()
            total += part.sum(dim=0)
            outer += part.T @ part
        mean = total / count
        covariance = (outer - count * torch.outer(mean, mean)) / (count - 1)
        # Pixels that never vary make it singular, so by eigenvectors and not by Cholesky.
        values, vectors = torch.linalg.eigh(covariance)
        root = (vectors * values.clamp(min=0).sqrt()).cpu()
        generator = torch.Generator().manual_seed(key("pixel Gaussian", self.seed))
        samples = torch.randn(self.count, size, dtype=torch.float64, generator=generator) @ root.T + mean.cpu()
        return samples.round().clamp(0, 255).to(torch.uint8).unflatten(1, self.data.shape)


def _share(count: int, rank: int, world: int) -> range:
    """The rows of `count` that a rank looks at: consecutive, as equal as can be."""
    return range(count * rank // world, count * (rank + 1) // world)


def _halves(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    one, other = torch.randperm(count, generator=generator).tensor_split(2)
    return one, other
