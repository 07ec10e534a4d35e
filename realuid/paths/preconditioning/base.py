"""What every preconditioning is: scalings of a network's input, output and time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from realuid.paths.interpolants import Coefficients
from realuid.paths.preconditioning.statistics import PathStatistics
from realuid.paths.targets import Target

FARTHEST = 1e12
"""Times and noise levels whose logarithm a network is given are kept within [1 / FARTHEST, FARTHEST]: far beyond any
schedule, but the logarithm stays finite at the ends of the path."""


class Scalings(NamedTuple):
    """Every tensor `[B]`, float64."""

    c_skip: tuple[Tensor, ...]
    """One for every row of the target."""
    c_out: tuple[Tensor, ...]
    """One for every row of the target."""
    c_in: Tensor
    c_noise: Tensor
    """The time that the network is given."""


class Preconditioning(ABC):
    """Scalings of a network's input, output and time."""

    statistics: PathStatistics | None = None
    """The second moments that the scalings follow from; None if they follow from none."""
    unit_variance: ClassVar[bool]
    """Whether the network's input and its effective target, (target - skip x_t) / out, are claimed to have variance one
    for data and source of the stated moments."""

    @abstractmethod
    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        """Scalings for a network that predicts `target`, at the times of `k`; None where the network is used as it is,
        on x_t and t.

        Raises:
            ValueError: if they are not defined for this target.
        """

    def check(self, k: Coefficients, target: Target) -> None:
        """Makes sure at assembly that the network can be trained at the times of `k`.

        Raises:
            ValueError: naming the first time at which a scaling is not finite, or at which the network's answer would
                count for nothing; or as for a call.
        """
        self.check_finite(k, target)
        if (scalings := self(k, target)) is not None:
            self._refuse(torch.stack(scalings.c_out).ne(0).all(0), "gives the network no say", k, target)

    def check_finite(self, k: Coefficients, target: Target) -> None:
        """Makes sure at assembly that the network can be asked at the times of `k`.

        Raises:
            ValueError: naming the first time at which a scaling is not finite; or as for a call.
        """
        if (scalings := self(k, target)) is not None:
            all_of_them = torch.stack([*scalings.c_skip, *scalings.c_out, scalings.c_in, scalings.c_noise])
            self._refuse(all_of_them.isfinite().all(0), "is not finite", k, target)

    def _refuse(self, good: Tensor, what: str, k: Coefficients, target: Target) -> None:
        if not bool(good.all()):
            raise ValueError(f"{type(self).__name__} {what} for {target} at time {float(k.t[~good][0]):.4g}")


class NoPreconditioning(Preconditioning):
    """The network predicts the target itself and is given the native time."""

    unit_variance = False

    def __call__(self, k: Coefficients, target: Target) -> Scalings | None:
        return None


def bounded_log(x: Tensor) -> Tensor:
    return x.clamp(1 / FARTHEST, FARTHEST).log()
