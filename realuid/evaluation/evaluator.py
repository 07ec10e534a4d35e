"""The evaluator: samples of a model, the real images beside them, and the metrics that compare the two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from realuid.data.dataset import Dataset
from realuid.data.shards.location import locate
from realuid.evaluation.baselines import drawable, gaussian_images, halves, sees_images_alone
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.frechet import Frechet
from realuid.evaluation.inputs import Inputs, SampleFn, batches, shared, told_by
from realuid.evaluation.label_accuracy import LabelAccuracy
from realuid.evaluation.metric import OF_FEATURES, PROMPT, Metric, Samples, fields_of
from realuid.evaluation.moments import Moments
from realuid.evaluation.paired import PSNR, PairMetric
from realuid.evaluation.parts import Shares, apportioned, images_of, joined
from realuid.evaluation.prompts import prompts_of
from realuid.evaluation.real_images import RealImages, show_real, stored_images
from realuid.evaluation.reference import Reference, read_reference
from realuid.evaluation.store import FeatureStore
from realuid.utils.errors import DataError
from realuid.utils.limits import check_at_most

__all__ = ["Evaluator"]


class Evaluator:
    """Compares generated images with real ones: all of a data set, or those of a reference file.

    For all metrics together, an image is generated once and passes through the feature network once. The global random
    state is neither read nor changed.

    Args:
        features: network in whose features images are compared.
        metrics: what is measured; the first one ranks models. None for `Frechet` alone. `LabelAccuracy` is added if
            the network reads the data's labels.
        pair_metrics: what is measured of models that start from a source image and have a right answer, its real
            image. None for `PSNR` alone.
        reference: path or URL of an npz of reference statistics (`realuid.evaluation.reference`); None for all images
            of the run's data set.
        count: generated images of an evaluation. A Frechet distance falls with it: it is part of the provenance.
        quick_count: generated images of an evaluation during training; None for `count`.
        images_per_prompt: images in a row that are told the same, from different noise; for `PromptSpread`.
        seed: of noise, conditions and baselines.
        batch: images a pass, through the generator as through the feature network; changes no result beyond rounding.
        cache: local folder where features of real images and final values are kept for later evaluations; None for
            `features` inside `REALUID_DATA`.

    Raises:
        ValueError: if a number is too small or large, there is no metric, or the network lacks what a metric reads.
    """

    def __init__(
        self,
        *,
        features: FeatureNetwork,
        metrics: Sequence[Metric] | None = None,
        pair_metrics: Sequence[PairMetric] | None = None,
        reference: str | None = None,
        count: int = 5000,
        quick_count: int | None = None,
        images_per_prompt: int = 1,
        seed: int = 0,
        batch: int = 500,
        cache: str | None = None,
    ) -> None:
        if count < 2 or min(batch, images_per_prompt) < 1:
            amounts = f"{count}, {batch} and {images_per_prompt}"
            raise ValueError(f"Evaluator needs count >= 2, batch and images_per_prompt >= 1, got {amounts}")
        check_at_most(10_000_000, count=count, batch=batch, images_per_prompt=images_per_prompt)
        if quick_count is not None and not 2 <= quick_count <= count:
            raise ValueError(f"Evaluator.quick_count must be at least 2 and at most count, got {quick_count}")
        self.metrics: list[Metric] = [Frechet()] if metrics is None else list(metrics)
        self.pair_metrics = [PSNR()] if pair_metrics is None else list(pair_metrics)
        if not self.metrics:
            raise ValueError("Evaluator.metrics names no metric")
        if features.reads_labels and not any(isinstance(metric, LabelAccuracy) for metric in self.metrics):
            self.metrics.append(LabelAccuracy())
        names = [name for metric in self.metrics for name in metric.names] + [m.name for m in self.pair_metrics]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"Evaluator: {', '.join(sorted(twice))} would be measured twice")
        for metric in self.metrics:
            for name in features.lacks((*metric.reads, *metric.names_of_real)):
                raise ValueError(f"{type(metric).__name__} reads {name}, which {features.name} does not give")
        self.features, self.reference = features, reference
        self.count, self.quick_count, self.seed, self.batch = count, quick_count or count, seed, batch
        self.cache, self.images_per_prompt = cache, images_per_prompt

    @property
    def ranking(self) -> Metric:
        """The metric that models are ranked by."""
        return self.metrics[0]

    @property
    def folder(self) -> str:
        """Where features and values are kept.

        Raises:
            DataError: if it is not local.
        """
        folder = self.cache or locate("features")
        if "://" in folder:
            raise DataError(f"{folder} is no local folder: bind Evaluator.cache to one")
        return folder

    def chosen(self, *, ranking: bool = False, conditioned: bool = True) -> list[Metric]:
        """The metrics to be measured.

        Args:
            ranking: only the ranking metric and the cheap ones.
            conditioned: whether the samples have conditions; metrics that read one are left out if not.
        """
        some = [metric for metric in self.metrics if not ranking or metric is self.ranking or metric.cheap]
        return [metric for metric in some if conditioned or not fields_of(metric.reads)]

    def check(self, data: Dataset) -> None:
        """Makes sure, before anything is trained, that models can be judged on `data`, opened.

        Raises:
            DataError, CheckpointError: if images are too few, or files or what a metric reads are missing.
        """
        self.features.check(data)
        real = images_of(data) if self.reference is None else read_reference(self.reference).count
        for metric in self.metrics:
            quick = metric.cheap or metric is self.ranking
            metric.check(real, self.quick_count if quick else self.count, told_by(data))
        for pair_metric in self.pair_metrics if data.has_sources else ():
            pair_metric.check(data.shape)

    def prepare(self, data: Dataset, device: torch.device | str, rank: int = 0, world: int = 1) -> None:
        """Prepares the network and reads the real images. To be called once, before everything below.

        Args:
            data: opened.
            rank: of this process among `world`. With more than one, each extracts its share of the features, and every
                call below must be made on all of them.

        Raises:
            DataError, CheckpointError: if weights or reference are missing, or do not fit.
        """
        self.data, self.device, self.rank, self.world = data, device, rank, world
        self.features.prepare(data, device)
        for metric in (*self.metrics, *self.pair_metrics):
            metric.to(device)
        for pair_metric in self.pair_metrics if data.has_sources else ():
            pair_metric.prepare(data.shape, device)
        self._file = None if self.reference is None else read_reference(self.reference)
        self._network = self.features.provenance()
        if self._file is not None:
            self._file.check(self._network, self.features.num_features, str(self.reference))
        self._real = self._real_images(self._file)
        for metric in self.metrics:
            show_real(metric, self._real, None if self._file is None else self._file.moments, str(self.reference))

    def _real_images(self, file: Reference | None) -> RealImages | None:
        """None where there are only moments."""
        store, options = FeatureStore(self.folder), {"rank": self.rank, "world": self.world, "batch": self.batch}
        if file is None:
            return RealImages([(one, one.checksum) for one in self.data.parts], self.features, store, **options)
        stored = None if file.images is None else [(file.images, file.sha256)]
        return None if stored is None else RealImages(stored, self.features, store, **options)

    def shares(self, quick: bool = False) -> Shares:
        """The images that are generated: of each part of the data in proportion to its real ones."""
        counts = apportioned(self.quick_count if quick else self.count, [len(part) for part in self.data.parts])
        return Shares(counts, self.rank, self.world)

    def generate(
        self,
        sample_fn: SampleFn,
        inputs: Sequence[Inputs],
        metrics: Iterable[Metric],
        *,
        quick: bool = False,
        pairs: bool = False,
    ) -> dict[str, Tensor]:
        """What `metrics` read of generated images, on the CPU (of several ranks: of this one's share); logits are left
        to `measure`, which makes them of features.

        Args:
            sample_fn: makes images, see `inputs.generate`.
            inputs: what it makes them from, for each part of the data.
            quick: the `quick_count` images of an evaluation during training.
            pairs: whether `measure_pairs` is asked, too, which reads the images.
        """
        names, size = {name for metric in metrics for name in metric.reads}, self.batch
        images, features, fields = "images" in names or pairs, bool(names & OF_FEATURES), fields_of(names)
        kept: list[Tensor] = []
        seen: list[Tensor] = []
        for told, share in shared(inputs, self.shares(quick).ranges, self.images_per_prompt):
            for part in batches(sample_fn, told, start=share.start, count=len(share), batch=size, device=self.device):
                if images:
                    kept.append(part)
                if features:
                    seen.append(self.features(part).cpu())
        samples = {"images": torch.cat(kept)} if kept else {}
        samples |= {"features": torch.cat(seen)} if seen else {}
        return samples | self.told(inputs, fields, quick=quick)

    def told(self, inputs: Sequence[Inputs], fields: Iterable[str], *, quick: bool = False) -> dict[str, Tensor]:
        """Fields of the conditions of this rank's images, and their prompts."""
        wanted, own = set(fields), shared(inputs, self.shares(quick).ranges, self.images_per_prompt)
        return joined([told.told(share.start, len(share), wanted) for told, share in own])

    def extract(self, images: Tensor) -> Tensor:
        """Features [N, d] of uint8 images [N, C, H, W], on the CPU."""
        return self.features.extract(images.split(self.batch), len(images))

    def measure(self, metrics: Iterable[Metric], samples: Samples, *, quick: bool = False) -> dict[str, float]:
        """The values of generated samples: of this rank's images, in their order.

        Args:
            metrics: of those that it was prepared with.
            samples: what they read, as `generate` gives it.
            quick: see `generate`.
        """
        values: dict[str, float] = {}
        for metric in metrics:
            values |= self._measured(metric, samples, self.shares(quick).rows(len(next(iter(samples.values())))))
        return values

    def _measured(self, metric: Metric, samples: Samples, rows: Tensor) -> dict[str, float]:
        metric.reset()
        if "logits" in metric.reads:
            samples = {**samples, "logits": self.features.logits(samples["features"].to(self.features.device))}
        if "scores" in metric.reads:
            samples = {**samples, "scores": self.features.scores(samples["features"], prompts_of(samples[PROMPT]))}
        metric.update(samples, rows, real=False)
        values = self._computed(metric)
        metric.reset()  # or the samples would stay in memory
        return values

    def measure_pairs(self, images: Tensor, *, quick: bool = False) -> dict[str, float]:
        """The pair metrics of uint8 images [N, C, H, W] that were made from the data's source images, in their order,
        beside the real images that belong to these."""
        first = self.shares(quick).ranges[0].start
        for metric in self.pair_metrics:
            metric.reset()
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            truth = self.data.examples(first + start, len(part)).images
            for metric in self.pair_metrics:
                metric.update(part, truth)
        return {metric.name: self._computed(metric) for metric in self.pair_metrics}

    def _computed(self, metric: Metric | PairMetric) -> Any:
        """What a metric says of all ranks' images."""
        if self.world == 1:
            return metric.compute()
        with metric.sync_context():
            return metric.compute()

    def moments(self) -> Moments:
        """Mean and covariance of the reference's features."""
        if self._file is not None and self._file.moments is not None:
            return self._file.moments
        assert self._real is not None, "a file without moments holds images"
        return Moments.of(self._real.gathered(("features",))["features"])

    def baselines(self) -> dict[str, float]:
        """Values to read others by, of each metric that is a distance: see `realuid.evaluation.baselines`."""
        values = halves(self.metrics, self._real, self.seed) if self._real is not None else {}
        distances = [metric for metric in self.metrics if sees_images_alone(metric)]
        if distances and len(self.data.parts) == 1 and drawable(self.data.shape):
            real = stored_images(self.data, range(len(self.data)), self.batch)
            (share,) = self.shares().ranges
            drawn = gaussian_images(real, self.data.shape, self.count, self.seed, self.device)
            images = drawn[share.start : share.stop]
            samples = {"images": images, "features": self.extract(images)}
            found = self.measure(distances, samples)
            values |= {f"pixel_gaussian_{metric.names[0]}": found[metric.names[0]] for metric in distances}
        return values

    def provenance(self, metric: Metric | None = None, *, quick: bool = False, **extra: object) -> dict[str, object]:
        """Everything two results must share to be comparable, and what is passed: see `realuid.evaluation.provenance`.

        Args:
            metric: whose settings are recorded, too; None for the ranking metric.
            quick: of a value measured during training.
        """
        settings, times = (metric or self.ranking).settings(), self.images_per_prompt
        return dict(
            **self._network,
            count=self.quick_count if quick else self.count,
            seed=self.seed,
            reference=self.data.checksum if self._file is None else self._file.sha256,
            reference_count=images_of(self.data) if self._file is None else self._file.count,
            **({"settings": settings} if settings else {}),
            **({"images_per_prompt": times} if times > 1 else {}),
            **extra,
        )

    def provenances(self, role: str, metrics: Iterable[Metric], **extra: Any) -> dict[str, dict[str, Any]]:
        """Provenance of all values of a role, by the name of each metric's first: `<role>_<name>`."""
        return {f"{role}_{metric.names[0]}": self.provenance(metric, **extra) for metric in metrics}
