r"""Targets: what a network regresses on,

.. math:: f_t = c_0(t)\, x_0 + c_1(t)\, x_1 + c_z(t)\, z,

a linear combination of the sampled triple. The model is its posterior mean f*_t(x) = E[f_t | x_t = x]. A target may
have several rows (`Stack`), which lie one after another in the channel dimension.

Posterior means are written in the basis (E[x0], E[x1], S) with S = E[z] / g = -score, in which every coefficient stays
finite at the ends of the path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from realuid.interpolants import Coefficients, combine

__all__ = ["Data", "Latent", "Noise", "Score", "Stack", "Velocity"]


class Row(NamedTuple):
    """One row of a target; every coefficient `[B]`, float64."""

    sampled: tuple[Tensor, Tensor, Tensor]
    """(c0, c1, cz): coefficients of x0, x1 and z in the sampled target."""
    mean: tuple[Tensor, Tensor, Tensor]
    """Coefficients of E[x0], E[x1] and S in its posterior mean."""

    def posterior(self) -> Tensor:
        """`mean` as one tensor `[B, 3]`."""
        return torch.stack(self.mean, dim=-1)


class Target(ABC):
    """Base of all targets: a subclass gives its rows as functions of the path's coefficients."""

    @abstractmethod
    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        """The coefficients (c0, c1, cz) of every row at the times of `k`."""

    @property
    def height(self) -> int:
        """Number of rows: a network predicts `height` times the channels of x."""
        return 1

    def sample(self, k: Coefficients, x0: Tensor, x1: Tensor, z: Tensor | None) -> Tensor:
        """The sampled (conditional) target c `[B, height * C, ...]`; z may be None where g is zero."""
        if z is None:
            rows = [combine(row.sampled[:2], (x0, x1)) for row in self.rows(k)]
        else:
            rows = [combine(row.sampled, (x0, x1, z)) for row in self.rows(k)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


@dataclass(frozen=True)
class Velocity(Target):
    """dx_t/dt = a' x0 + b' x1 + g' z, the drift of the probability-flow ODE (Albergo et al. 2303.08797, eq. 2.9)."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        return (Row((k.a_dot, k.b_dot, k.g_dot), (k.a_dot, k.b_dot, k.gg_dot)),)


@dataclass(frozen=True)
class Data(Target):
    """x1: the denoiser's target (EDM's D)."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        zero, one = torch.zeros_like(k.t), torch.ones_like(k.t)
        return (Row((zero, one, zero), (zero, one, zero)),)


@dataclass(frozen=True)
class Noise(Target):
    """x0: epsilon-prediction, for a Gaussian source."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        zero, one = torch.zeros_like(k.t), torch.ones_like(k.t)
        return (Row((one, zero, zero), (one, zero, zero)),)


@dataclass(frozen=True)
class Latent(Target):
    """z, the latent noise of a two-sided interpolant (minus eta of Albergo et al. 2303.08797)."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        zero, one = torch.zeros_like(k.t), torch.ones_like(k.t)
        return (Row((zero, zero, one), (zero, zero, k.g)),)


@dataclass(frozen=True)
class Score(Target):
    """grad log p_t: regressed as -z/g where the path has latent noise, else as -x0/a (denoising score matching)."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        two_sided, zero = k.g_squared > 0, torch.zeros_like(k.t)
        sampled = torch.where(two_sided, zero, -1 / k.a), zero, torch.where(two_sided, -1 / k.g, zero)
        return (Row(sampled, (zero, zero, -torch.ones_like(k.t))),)


@dataclass(frozen=True)
class Stack(Target):
    """Several targets predicted at once, rows one after another in the channel dimension.

    Args:
        targets: the targets, in the order of the channels.

    Raises:
        ValueError: if `targets` is empty.
    """

    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("Stack.targets is empty")
        object.__setattr__(self, "targets", tuple(self.targets))

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        return tuple(row for target in self.targets for row in target.rows(k))

    @property
    def height(self) -> int:
        return sum(target.height for target in self.targets)
