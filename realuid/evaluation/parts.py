"""An evaluation of images of several sizes: how many there are of each, who makes them, and how they are numbered.

The images of one size are a part. Real and generated ones are numbered through all parts, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from realuid.data.dataset import Dataset
from realuid.evaluation.features import FeatureNetwork
from realuid.evaluation.metric import Metric


def one_size_for(features: FeatureNetwork, metrics: Iterable[Metric], *, pairs: bool) -> str | None:
    """Why images of several sizes cannot be measured together; None if they can.

    Args:
        features: that they are seen by.
        metrics: that are measured.
        pairs: whether images are compared with right answers.
    """
    if pairs:
        return "pairs are compared pixel by pixel"
    if not features.any_size:
        return f"{features.name} looks at images of one size"
    reads = (metric for metric in metrics if "images" in (*metric.reads, *metric.names_of_real))
    return next((f"{type(metric).__name__} reads images" for metric in reads), None)


def share_of(count: int, rank: int, world: int) -> range:
    """The rows of `count` that belong to a rank: consecutive, in shares that differ by one at most."""
    return range(count * rank // world, count * (rank + 1) // world)


def images_of(data: Dataset) -> int:
    """Real images of all parts of a set."""
    return sum(len(part) for part in data.parts)


def apportioned(count: int, sizes: Sequence[int]) -> list[int]:
    """`count` images in proportion to the sizes of parts, rounded so that the sum is right."""
    bounds = [round(count * end / sum(sizes)) for end in accumulate(sizes, initial=0)]
    return [end - start for start, end in pairwise(bounds)]


@dataclass(frozen=True)
class Shares:
    """Which images are a rank's."""

    counts: Sequence[int]
    """Images of each part."""
    rank: int
    world: int

    @property
    def ranges(self) -> list[range]:
        """This rank's of each part, counted from 0 in each."""
        return [share_of(count, self.rank, self.world) for count in self.counts]

    def rows(self, count: int) -> Tensor:
        """Numbers `[count]` of this rank's images; of another `count` than theirs, the last part's go on or end
        early."""
        firsts = accumulate(self.counts, initial=0)
        own = [first + torch.arange(one.start, one.stop) for first, one in zip(firsts, self.ranges, strict=False)]
        before = torch.cat(own[:-1]) if own[:-1] else own[-1][:0]
        last = self.ranges[-1].start + sum(self.counts[:-1])
        return torch.cat([before, torch.arange(last, last + count - len(before))])


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Samples of several parts as one; those of one part are not copied."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
