"""The real images that generated ones are compared with, as metrics read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from realuid.data.dataset import Dataset
from realuid.evaluation.accumulator import gathered
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.metric import OF_IMAGES, Metric, fields_of
from realuid.evaluation.moments import Moments
from realuid.evaluation.parts import Shares, joined
from realuid.evaluation.store import FeatureStore
from realuid.utils.errors import DataError

__all__ = ["RealImages", "show_real", "stored_images"]


class RealImages:
    """One rank's share of real images, which may be of several sizes. Features are extracted when a metric first reads
    them, and kept on disk.

    Args:
        sources: of one size each: opened data sets, or uint8 images `[N, C, H, W]` of a file; with their checksums.
        network: prepared.
        store: where features are kept.
        rank: of this process.
        world: number of processes.
        batch: images a pass.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Dataset | Tensor, str]],
        network: FeatureNetwork,
        store: FeatureStore,
        *,
        rank: int,
        world: int,
        batch: int,
    ) -> None:
        self.shares = Shares([len(source) for source, _ in sources], rank, world)
        self.count = sum(self.shares.counts)
        self.parts = [
            _Part(source, checksum, share, network, store, world=world, batch=batch)
            for (source, checksum), share in zip(sources, self.shares.ranges, strict=True)
        ]

    @property
    def rows(self) -> Tensor:
        """Numbers of this rank's images `[n]`, counted through all parts."""
        return self.shares.rows(sum(map(len, self.shares.ranges)))

    def missing(self, names: Iterable[str]) -> str | None:
        """The first of what a metric reads that these images lack; None if they lack nothing."""
        return self.parts[0].missing(names)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """This rank's samples, as a metric that reads `names` sees them."""
        return joined([part.read(names) for part in self.parts])

    def gathered(self, names: Iterable[str]) -> dict[str, Tensor]:
        """All ranks' samples, in order, on the network's device."""
        return joined([part.gathered(names) for part in self.parts])


class _Part:
    """Those of one size; arguments as of `RealImages`, and the rows of the source that are this rank's."""

    def __init__(
        self,
        source: Dataset | Tensor,
        checksum: str,
        share: range,
        network: FeatureNetwork,
        store: FeatureStore,
        *,
        world: int,
        batch: int,
    ) -> None:
        self.source, self.network, self.store, self.world, self.batch = source, network, store, world, batch
        self.share = share
        self._label = {**network.provenance(), "of": checksum, "first": self.share.start, "last": self.share.stop}
        self._features: Tensor | None = None

    def missing(self, names: Iterable[str]) -> str | None:
        """The first of what a metric reads that these images lack; None if they lack nothing."""
        given = OF_IMAGES if isinstance(self.source, Tensor) else OF_IMAGES | {f.name for f in self.source.conditions}
        return next((name for name in names if name not in given), None)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """This rank's samples, as a metric that reads `names` sees them."""
        found: dict[str, Tensor] = {}
        for name in names:
            if name == "images":
                found[name] = torch.cat([self._no_images(), *self.images()])
            elif name == "features":
                found[name] = self.features
            elif name == "logits":
                found[name] = self.network.logits(self.features.to(self.network.device))
        if fields := fields_of(names):
            assert isinstance(self.source, Dataset)
            condition = self.source.condition_examples(self.share.start, len(self.share))
            found |= {name: condition[name] for name in fields}
        return found

    def gathered(self, names: Iterable[str]) -> dict[str, Tensor]:
        """All ranks' samples, in order, on the network's device."""
        own = {name: tensor.to(self.network.device) for name, tensor in self.read(names).items()}
        if self.world == 1:
            return own
        return {name: torch.cat(gathered(tensor)) for name, tensor in own.items()}

    def _no_images(self) -> Tensor:
        shape = self.source.shape[1:] if isinstance(self.source, Tensor) else self.source.shape
        return torch.empty(0, *shape, dtype=torch.uint8)

    @property
    def features(self) -> Tensor:
        """Of this rank's images, `[n, d]` on the CPU."""
        if self._features is None:
            self._features = self.store.get(self._label, lambda: self.network.extract(self.images(), len(self.share)))
        return self._features

    def images(self) -> Iterator[Tensor]:
        """This rank's images, uint8 `[n, C, H, W]` at a time, in the order of storage."""
        if isinstance(self.source, Tensor):
            yield from self.source[self.share.start : self.share.stop].split(self.batch)
        else:
            yield from stored_images(self.source, self.share, self.batch)


def show_real(metric: Metric, real: RealImages | None, moments: Moments | None, origin: str) -> None:
    """Gives a metric what it reads of real images, or moments instead if there are any and the metric takes them.

    Args:
        metric: to be told.
        real: the images; None where there are only moments.
        moments: of a reference file.
        origin: that file.

    Raises:
        DataError: if the metric reads something that the images or the file do not hold.
    """
    names, who = metric.names_of_real, type(metric).__name__
    if moments is not None and metric.takes_moments:
        metric.refer_to(moments)
    elif names and real is None:
        raise DataError(f"{origin} holds mean and covariance alone: {who} needs real images")
    elif names and real is not None:
        if missing := real.missing(names):
            raise DataError(f"{origin} holds images without {missing}, which {who} reads")
        metric.update(real.read(names), real.rows, real=True)


def stored_images(data: Dataset, rows: range, batch: int) -> Iterator[Tensor]:
    """Images of a data set, uint8 `[n, C, H, W]` at a time, in the order of storage."""
    for start in range(rows.start, rows.stop, batch):
        yield data.examples(start, min(batch, rows.stop - start)).images
