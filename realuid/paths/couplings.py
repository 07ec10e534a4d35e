"""Couplings (x0, x1) ~ pi: how a source sample is paired with a data sample.

The same rule pairs generated samples: they must obey the coupling that the teacher was trained with. Independent: a
fresh x0 beside the generated x1. Minibatch OT: the same assignment, in groups of the same size, between fresh x0 and
generated x1. Paired: the x0 that the sample was generated from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realuid.conditions import LABEL, Condition

__all__ = ["IndependentCoupling", "MinibatchOT", "PairedCoupling"]


class Coupling(ABC):
    """Pairs a batch of source samples with a batch of data samples."""

    source: Literal["gaussian", "data"]
    """Where x0 comes from: N(0, I), or the source images of the data set."""
    independent: bool
    """Whether x0 is independent of x1. If it is Gaussian too, E[x0 | x_t] = -a(t) score: one more known."""
    keeps_source: bool = False
    """Whether x0 belongs to its x1, so that a generated sample stays with the x0 it was made from."""
    size: int = 1
    """Samples are paired within groups of so many consecutive ones."""

    @property
    def gaussian_source(self) -> bool:
        """Whether x0 ~ N(0, I), whatever it is paired with."""
        return self.source == "gaussian"

    @abstractmethod
    def pair(self, x0: Tensor, x1: Tensor, condition: Condition) -> Tensor:
        """The x0 `[B, ...]` of every x1.

        Args:
            x0: drawn from the source, `[B, ...]`.
            x1: data `[B, ...]`, B a multiple of `size`.
            condition: of x1.
        """


class IndependentCoupling(Coupling):
    """pi = p_source x p_data: noise and data independent, as in diffusion and flow matching; or two unpaired data sets.

    Args:
        source: `gaussian` noise, or `data`: the source images that the data set gives.
    """

    independent = True

    def __init__(self, *, source: Literal["gaussian", "data"] = "gaussian") -> None:
        self.source = source

    def pair(self, x0: Tensor, x1: Tensor, condition: Condition) -> Tensor:
        return x0


class PairedCoupling(Coupling):
    """The data set gives pairs: x0 is a degradation of x1, or another picture of the same thing."""

    source = "data"
    independent = False
    keeps_source = True

    def pair(self, x0: Tensor, x1: Tensor, condition: Condition) -> Tensor:
        return x0


class MinibatchOT(Coupling):
    """Optimal transport within small groups: the permutation of x0 with the least sum of |x0 - x1|^2 (Pooladian et al.
    2304.14772; Tong et al. 2302.00482, who draw from the plan with replacement, which loses samples).

    The coupling depends on the group's size: a distillation must use its teacher's.

    Args:
        size: samples of a group; the cost grows with its cube.
        by_label: assign only within samples of one class, so that x0 stays independent of the label. Without it a
            class-conditional model sees a different source for every class. Samples without labels are of one class.
        source: `gaussian` noise, or `data`: the source images that the data set gives.

    Raises:
        ValueError: if `size` is less than 2.
    """

    independent = False

    def __init__(self, *, size: int, by_label: bool = False, source: Literal["gaussian", "data"] = "gaussian") -> None:
        if size < 2:
            raise ValueError(f"size must be at least 2, got {size}; a group of one is IndependentCoupling")
        self.size, self.by_label, self.source = size, by_label, source

    def pair(self, x0: Tensor, x1: Tensor, condition: Condition) -> Tensor:
        if len(x1) % self.size:
            raise ValueError(f"{len(x1)} samples do not divide into groups of MinibatchOT.size = {self.size}")
        if x0.is_meta:  # only shapes are wanted
            return x0
        rows = self._assigned(self._costs(x0, x1, condition).cpu().numpy())
        return x0[torch.from_numpy(rows).to(x0.device)]

    @torch.no_grad()
    def _costs(self, x0: Tensor, x1: Tensor, condition: Condition) -> Tensor:
        """|x0 - x1|^2 `[groups, size of x1, size of x0]`, float64; all groups at once, since a device is asked once."""
        noise, data = (x.flatten(1).unflatten(0, (-1, self.size)) for x in (x0, x1))
        costs = torch.cdist(data, noise).square()
        if self.by_label and LABEL in condition:
            mine = condition[LABEL].unflatten(0, (-1, self.size))
            # Rows and columns of another class are out of reach; those of one class are equally many.
            others = mine[:, :, None] != mine[:, None, :]
            costs = costs + others * (1 + costs.sum((1, 2), keepdim=True))
        return costs.double()

    def _assigned(self, costs: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each row of x1 the row of its x0."""
        from scipy.optimize import linear_sum_assignment  # imported where needed: it is slow

        firsts = self.size * np.arange(len(costs))
        columns = [linear_sum_assignment(group)[1] for group in costs]
        return np.concatenate([first + column for first, column in zip(firsts, columns, strict=True)])
