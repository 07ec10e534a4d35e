r"""Preconditioning: the network F sees and answers in unit variance,

.. math:: \hat f(x, t) = c_{skip}(t)\, x + c_{out}(t)\, F(c_{in}(t)\, x,\ c_{noise}(t)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["EDMPreconditioning", "NoPreconditioning"]


class Scalings(NamedTuple):
    """Every entry `[B]`, float64."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor
    """The time that the network is given."""


class Preconditioning(ABC):
    """Scalings of a network's input, output and time."""

    @abstractmethod
    def __call__(self, t: Tensor) -> Scalings | None:
        """Scalings at native times t `[B]`; None where the network is used as it is, on x and t."""


class NoPreconditioning(Preconditioning):
    """The network predicts the target itself and is given the native time."""

    def __call__(self, t: Tensor) -> Scalings | None:
        return None


class EDMPreconditioning(Preconditioning):
    """EDM's scalings for a data target with time = sigma (Karras et al. 2206.00364, table 1).

    Args:
        sigma_data: standard deviation of the data's pixels.

    Raises:
        ValueError: if `sigma_data` is not positive.
    """

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        if sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.sigma_data = sigma_data

    def __call__(self, t: Tensor) -> Scalings | None:
        t = t.double()
        variance = t**2 + self.sigma_data**2
        return Scalings(
            skip=self.sigma_data**2 / variance,
            out=t * self.sigma_data / variance.sqrt(),
            into=1 / variance.sqrt(),
            noise=torch.log(t) / 4,
        )
