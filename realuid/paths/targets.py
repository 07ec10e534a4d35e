r"""Targets: what a network regresses on,

.. math:: f_t = c_0(t)\, x_0 + c_1(t)\, x_1 + c_z(t)\, z,

a linear combination of the sampled triple. The model is its posterior mean f*_t(x) = E[f_t | x_t = x]. A target may
have several rows (`Stack`), which lie one after another in the channel dimension.

Posterior means are written in the basis (E[x0], E[x1], S) with S = E[z] / g = -score, in which every coefficient stays
finite at the ends of the path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from realuid.paths.interpolants import Coefficients, combine
from realuid.utils.expressions import Expression

__all__ = [
    "Data",
    "ExpressionTarget",
    "ForwardDrift",
    "Noise",
    "PathNoise",
    "Score",
    "Stack",
    "VPrediction",
    "Velocity",
]


class Row(NamedTuple):
    """One row of a target; every coefficient `[B]`, float64."""

    sampled: tuple[Tensor, Tensor, Tensor]
    """(c0, c1, cz): coefficients of x0, x1 and z in the sampled target."""
    mean: tuple[Tensor, Tensor, Tensor]
    """Coefficients of E[x0], E[x1] and S in its posterior mean."""

    def posterior(self) -> Tensor:
        """`mean` as one tensor `[B, 3]`."""
        return torch.stack(self.mean, dim=-1)

    def scaled(self, factor: float) -> Row:
        if factor == 1:
            return self
        c0, c1, cz = self.sampled
        m0, m1, ms = self.mean
        return Row((factor * c0, factor * c1, factor * cz), (factor * m0, factor * m1, factor * ms))


def cat_rows(rows: Sequence[Tensor]) -> Tensor:
    """The rows of a target, each `[B, C, ...]`, as one tensor `[B, len(rows) * C, ...]`."""
    return rows[0] if len(rows) == 1 else torch.cat(list(rows), dim=1)


class Target(ABC):
    """Base of all targets: a subclass gives its rows as functions of the path's coefficients."""

    @abstractmethod
    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        """The coefficients (c0, c1, cz) of every row at the times of `k`."""

    @property
    def name(self) -> str:
        """The target as tables show it."""
        return type(self).__name__

    @property
    def out_multiplier(self) -> int:
        """Number of rows: a network predicts `out_multiplier` times the channels of x."""
        return 1

    def sample(self, k: Coefficients, x0: Tensor, x1: Tensor, z: Tensor | None) -> Tensor:
        """The sampled (conditional) target c `[B, out_multiplier * C, ...]`; z may be None where g is zero."""
        if z is None:
            rows = [combine(row.sampled[:2], (x0, x1)) for row in self.rows(k)]
        else:
            rows = [combine(row.sampled, (x0, x1, z)) for row in self.rows(k)]
        return cat_rows(rows)


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
class PathNoise(Target):
    """z, the noise that the path adds between its ends: the denoiser of Albergo et al. 2303.08797."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        zero, one = torch.zeros_like(k.t), torch.ones_like(k.t)
        return (Row((zero, zero, one), (zero, zero, k.g)),)


@dataclass(frozen=True)
class Score(Target):
    """grad log p_t: regressed as -z/g where g > 0, else as -x0/a (denoising score matching)."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        two_sided, zero = k.g_squared > 0, torch.zeros_like(k.t)
        sampled = torch.where(two_sided, zero, -1 / k.a), zero, torch.where(two_sided, -1 / k.g, zero)
        return (Row(sampled, (zero, zero, -torch.ones_like(k.t))),)


@dataclass(frozen=True)
class VPrediction(Target):
    """b x0 - a x1, the v of progressive distillation (Salimans & Ho 2202.00512, appendix D): alpha eps - sigma x."""

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        zero = torch.zeros_like(k.t)
        return (Row((k.b, -k.a, zero), (k.b, -k.a, zero)),)


@dataclass(frozen=True)
class ForwardDrift(Target):
    r"""The drift of a bridge's own diffusion, a function of x_t and x1 alone: (a'/a)(x_t - b x1) + b' x1.

    .. math:: \dot a\, x_0 + \dot b\, x_1 + g \frac{\dot a}{a} z = v - \frac{e^2}{2 g} z,
              \qquad e^2 = 2 g \dot g - 2 g^2 \dot a / a

    for time running from source to data; as dx/dt it reads the same when time runs backwards. On the Brownian bridge it
    is (x1 - x_t) / (1 - t) (Shi et al. 2303.16852; Liu et al. I2SB 2302.05872).
    """

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        pull = k.a_dot / k.a
        return (Row((k.a_dot, k.b_dot, k.g * pull), (k.a_dot, k.b_dot, k.g_squared * pull)),)


@dataclass(frozen=True)
class ExpressionTarget(Target):
    """A target written down in gin: c0(t) x0 + c1(t) x1 + cz(t) z.

    Args:
        x0: c0(t), a formula of t, a, b, g and the derivatives a_dot, b_dot, g_dot; see `realuid.utils.expressions`.
        x1: c1(t), likewise.
        z: cz(t), likewise.

    Raises:
        ValueError: if a formula cannot be read.
    """

    x0: str = "0"
    x1: str = "0"
    z: str = "0"

    def __post_init__(self) -> None:
        self._formulas()

    def _formulas(self) -> tuple[Expression, ...]:
        names = ("t", "a", "b", "g", "a_dot", "b_dot", "g_dot")
        return tuple(Expression(text, names) for text in (self.x0, self.x1, self.z))

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        c0, c1, cz = (
            formula(t=k.t, a=k.a, b=k.b, g=k.g, a_dot=k.a_dot, b_dot=k.b_dot, g_dot=k.g_dot)
            for formula in self._formulas()
        )
        return (Row((c0, c1, cz), (c0, c1, cz * k.g)),)


@dataclass(frozen=True)
class Stack(Target):
    """Several targets predicted at once, rows one after another in the channel dimension.

    Args:
        targets: the targets, in the order of the channels.
        weights: how much the squared error of each counts; a target of weight w is predicted times sqrt(w). None for
            equal weights of one.

    Raises:
        ValueError: if `targets` is empty, or the weights are not as many or not positive.
    """

    targets: tuple[Target, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("Stack.targets is empty")
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.weights is not None:
            if len(self.weights) != len(self.targets) or min(self.weights) <= 0:
                raise ValueError(f"Stack.weights must be {len(self.targets)} positive numbers, got {self.weights}")
            object.__setattr__(self, "weights", tuple(self.weights))

    def rows(self, k: Coefficients) -> tuple[Row, ...]:
        weights = self.weights or (1.0,) * len(self.targets)
        return tuple(
            row.scaled(weight**0.5)
            for target, weight in zip(self.targets, weights, strict=True)
            for row in target.rows(k)
        )

    @property
    def name(self) -> str:
        return "+".join(target.name for target in self.targets)

    @property
    def out_multiplier(self) -> int:
        return sum(target.out_multiplier for target in self.targets)
