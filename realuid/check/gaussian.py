r"""Gaussian pairs (x0, x1), pixel by pixel: every posterior mean and density of the path in closed form.

With x_t = a x0 + b x1 + g z and r = (x_t - E[x_t]) / Var(x_t) = -score,

.. math:: E[x_0 | x_t] = m_0 + Cov(x_0, x_t)\, r, \quad E[x_1 | x_t] = m_1 + Cov(x_1, x_t)\, r, \quad E[z | x_t] = g r,

and the same given x0 with the conditional law of x1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.matching import DerivedModel, MatchingModel, PosteriorMean, matching_model_of
from realuid.networks.base import Network
from realuid.paths.couplings import Coupling
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.targets import Target, cat_rows

UNCONDITIONAL = Condition()


@dataclass(frozen=True)
class Moments:
    """First and second moments of a pixel of x0 and the same pixel of x1."""

    mean0: float
    mean1: float
    variance0: float
    variance1: float
    covariance: float

    def paired_with(self, coupling: Coupling, mean1: float, variance1: float, slope: float = 0.0) -> Moments:
        """This source with generated samples: x1 of these moments, `slope` of x1 on its own x0, paired by the rule.

        An assignment is taken at its Gaussian limit, the monotone map.
        """
        if coupling.keeps_source:
            covariance = slope * self.variance0
        else:
            covariance = 0.0 if coupling.independent else math.sqrt(self.variance0 * variance1)
        return replace(self, mean1=mean1, variance1=variance1, covariance=covariance)


def data_moments(model: MatchingModel) -> Moments:
    """The stand-in for the data: its standard deviations are those that the preconditioning reckons with, if any."""
    coupling = model.coupling
    statistics = model.preconditioning.statistics
    s0, s1, correlation = 0.6, 0.5, 0.6
    if statistics is not None:
        s0, s1 = statistics.sigma_source, statistics.sigma_data
        correlation = statistics.r
    if coupling.gaussian_source:
        source = Moments(0.0, 0.0, 1.0, 0.0, 0.0)
    else:
        source = Moments(-0.3 * s0, 0.0, s0**2, 0.0, 0.0)
    return source.paired_with(coupling, 0.4 * s1, s1**2, correlation * s1 / s0)


def claimed_moments(model: MatchingModel, moments: Moments) -> Moments:
    """The moments for which a preconditioning claims unit variance. The covariance of minibatch OT's pairs depends on
    groups and pixels, of which its Gaussian limit knows nothing: the stated one counts."""
    statistics = model.preconditioning.statistics
    if model.coupling.independent or model.coupling.keeps_source or statistics is None:
        return moments
    return replace(moments, covariance=statistics.r * math.sqrt(moments.variance0 * moments.variance1))


class GaussianPairs(PosteriorMean):
    """E[f_t | x_t] (or, if `source_conditioned`, E[f_t | x_t, x0]) for Gaussian pairs.

    Args:
        interpolant: the path.
        coupling: how they were paired; only handed on.
        moments: of the pairs.
        source_conditioned: whether x0 is known.
    """

    def __init__(
        self, *, interpolant: Interpolant, coupling: Coupling, moments: Moments, source_conditioned: bool = False
    ) -> None:
        super().__init__()
        self.interpolant, self.coupling, self.source_conditioned = interpolant, coupling, source_conditioned
        self.moments = moments

    def _law(self, k: Coefficients, x0: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Mean and variance of x_t `[B, 1]`, its covariances with x0 and x1, and the mean of x1, all given what is
        known."""
        m = self.moments
        a, b, g_squared = k.a[:, None], k.b[:, None], k.g_squared[:, None]
        if not self.source_conditioned:
            mean = a * m.mean0 + b * m.mean1
            variance = a**2 * m.variance0 + b**2 * m.variance1 + 2 * a * b * m.covariance + g_squared
            with0 = a * m.variance0 + b * m.covariance
            with1 = a * m.covariance + b * m.variance1
            return mean, variance, with0, with1, torch.full_like(mean, m.mean1)
        assert x0 is not None
        mean1 = m.mean1 + m.covariance / m.variance0 * (x0.double() - m.mean0)
        rest = m.variance1 - m.covariance**2 / m.variance0
        mean = a * x0.double() + b * mean1
        return mean, b**2 * rest + g_squared + 0 * mean, 0 * mean, b * rest + 0 * mean, mean1

    def predict_at(
        self, k: Coefficients, x_t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        mean, variance, with0, with1, mean1 = self._law(k, x0)
        # Given x0, nothing is open at the source end: x_t is x0.
        r = torch.where(variance > 0, (x_t.double() - mean) / variance.clamp_min(1e-300), 0.0)
        e0 = x0.double() if self.source_conditioned and x0 is not None else self.moments.mean0 + with0 * r
        e1 = mean1 + with1 * r
        parts = [combine(row.mean, (e0.expand_as(r), e1.expand_as(r), r)) for row in target.rows(k)]
        return cat_rows(parts).to(x_t.dtype)

    def log_density(self, x_t: Tensor, t: Tensor, x0: Tensor | None = None) -> Tensor:
        """log p_t(x_t), or log p_t(x_t | x0), `[B]` for x_t `[B, 1]`."""
        mean, variance, *_ = self._law(self.interpolant.at(t), x0)
        return (-0.5 * ((x_t - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi))).sum(1)

    def spread(self, t: Tensor, x0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_t `[B, 1]`."""
        mean, variance, *_ = self._law(self.interpolant.at(t), x0)
        return mean, variance.sqrt()

    def check(self, target: Target, times: Tensor) -> None:
        """Every target is known."""


class _Unasked(Network):
    """In the place of a network whose answers are known in closed form."""

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        raise AssertionError("an exact model asks no network")


class ExactModel(MatchingModel):
    """A matching model whose native prediction is exact: path, target, conversions and refusals are those of `like`."""

    law: GaussianPairs

    def __init__(self, like: MatchingModel, moments: Moments) -> None:
        super().__init__(
            network=_Unasked(),
            interpolant=like.interpolant,
            coupling=like.coupling,
            target=like.target,
            preconditioning=like.preconditioning,
            source_conditioned=like.source_conditioned,
        )
        self.law = GaussianPairs(
            interpolant=like.interpolant,
            coupling=like.coupling,
            moments=moments,
            source_conditioned=like.source_conditioned,
        )

    @property
    def has_null(self) -> bool:
        return True

    def null(self, condition: Condition) -> Condition:
        """The same: these answers depend on no condition."""
        return condition

    def _native(
        self, k: Coefficients, x_t: Tensor, condition: Condition, x0: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        return self.law.predict_at(k, x_t, condition, self.target, x0)


def exact(model: PosteriorMean, moments: Moments) -> PosteriorMean:
    """`model` with exact predictions in place of its network's; guidance or another path around it stay."""
    if isinstance(model, MatchingModel):
        return ExactModel(model, moments)
    inner = matching_model_of(model)
    if inner is None:  # a closed form of its own
        return GaussianPairs(interpolant=model.interpolant, coupling=model.coupling, moments=moments)
    outer = model
    while isinstance(outer, DerivedModel):
        if outer.model is inner:
            outer.model = ExactModel(inner, moments)
        outer = outer.model
    return model
