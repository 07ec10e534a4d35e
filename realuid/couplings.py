"""Couplings (x0, x1) ~ pi: how a source sample is paired with a data sample.

The same rule pairs generated samples: they must obey the coupling that the teacher was trained with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["IndependentCoupling"]


class Coupling(ABC):
    """Pairs a batch of source samples with a batch of data samples."""

    gaussian_source: bool
    """Whether x0 ~ N(0, I) independently of x1 and z. Then E[x0 | x_t] = -a(t) score: one more known in conversions."""

    @abstractmethod
    def pair(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs x0 `[B, ...]`, drawn from the source, with x1 `[B, ...]`; both are returned in the order of x1."""


class IndependentCoupling(Coupling):
    """pi = N(0, I) x p_data: noise and data independent, as in diffusion and flow matching."""

    gaussian_source = True

    def pair(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        return x0, x1
