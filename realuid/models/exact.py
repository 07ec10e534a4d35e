r"""Exact posterior means for data whose distribution is known: teachers without error.

For x1 ~ sum_k p_k N(m_k, C_k) and an independent x0 ~ N(0, I), x_t given component k is Gaussian with mean b m_k and
covariance S_k = b^2 C_k + (a^2 + g^2) I, hence with r_k = S_k^{-1}(x_t - b m_k)

.. math:: E[x_0 | x_t, k] = a\, r_k, \quad E[x_1 | x_t, k] = m_k + b\, C_k r_k, \quad E[z | x_t, k] / g = r_k,

weighted by the posterior probabilities of the components.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.matching import PosteriorMean
from realuid.paths.couplings import Coupling, IndependentCoupling
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.targets import Target, cat_rows

__all__ = ["ConditionalGaussian", "GaussianMixture"]


class _Gaussians(PosteriorMean):
    """E[f_t | x_t] for data that are a mixture of K Gaussians of dimension D, and an independent source.

    Args:
        interpolant: the path.
        covariances: `[K, D, D]`, float64.
        weights: of the components `[K]`.

    Raises:
        ValueError: if a weight is not positive, or a covariance is not symmetric positive semi-definite.
    """

    weights: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    def __init__(self, interpolant: Interpolant, covariances: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.interpolant = interpolant
        self.coupling: Coupling = IndependentCoupling()
        if not bool((weights > 0).all()):
            raise ValueError(f"weights must be positive, got {weights.tolist()}")
        eigenvalues, eigenvectors = torch.linalg.eigh(covariances)
        if not torch.allclose(covariances, covariances.mT) or bool((eigenvalues < -1e-9).any()):
            raise ValueError("covariances must be symmetric and positive semi-definite")
        self.register_buffer("weights", weights.double() / weights.double().sum())
        self.register_buffer("eigenvalues", eigenvalues.clamp_min(0))
        self.register_buffer("eigenvectors", eigenvectors)

    @abstractmethod
    def component_means(self, condition: Condition) -> Tensor:
        """Means of the components `[B, K, D]`, or `[1, K, D]` if they are the same for all samples; float64."""

    def _components(self, x: Tensor, k: Coefficients, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior probabilities `[B, K]`, r_k `[B, K, D]` and log p_t(x) `[B]` for x `[B, D]` in float64."""
        scale = k.b[:, None, None]
        variances = scale**2 * self.eigenvalues + k.noise_variance[:, None, None]  # [B, K, D]
        centred = torch.einsum("kde,bkd->bke", self.eigenvectors, x[:, None] - scale * means)
        whitened = centred / variances
        log_density = -0.5 * (centred * whitened + variances.log() + math.log(2 * math.pi)).sum(-1)
        log_joint = log_density + self.weights.log()
        r = torch.einsum("kde,bke->bkd", self.eigenvectors, whitened)
        return torch.softmax(log_joint, dim=-1), r, torch.logsumexp(log_joint, dim=-1)

    def log_density(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """log p_t(x_t) `[B]`, float64, for x_t `[B, ...]`, given the condition if the model reads any."""
        means = self.component_means(condition or Condition())
        return self._components(x_t.double().flatten(1), self.interpolant.at(t), means)[2]

    def predict_at(
        self, k: Coefficients, x_t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        means = self.component_means(condition)
        probability, r, _ = self._components(x_t.double().flatten(1), k, means)
        covariance_r = torch.einsum("kde,ke,kfe,bkf->bkd", self.eigenvectors, self.eigenvalues, self.eigenvectors, r)
        s = torch.einsum("bk,bkd->bd", probability, r)
        x1 = torch.einsum("bk,bkd->bd", probability, means + k.b[:, None, None] * covariance_r)
        x0 = k.a[:, None] * s
        parts = [combine(row.mean, (x0, x1, s)) for row in target.rows(k)]
        return cat_rows([part.view_as(x_t) for part in parts]).to(x_t.dtype)

    def check(self, target: Target, times: Tensor) -> None:
        """Every target is known."""


class GaussianMixture(_Gaussians):
    """E[f_t | x_t] in closed form for Gaussian-mixture data of dimension D = C * H * W and an independent source.

    Args:
        interpolant: the path.
        means: K lists of D numbers.
        covariances: K symmetric positive semi-definite D x D matrices, as nested lists.
        weights: K positive numbers, normalised here; equal if None.

    Raises:
        ValueError: if the shapes disagree, a weight is not positive, or a covariance is not symmetric positive
            semi-definite.
    """

    means: Tensor

    def __init__(
        self,
        *,
        interpolant: Interpolant,
        means: Sequence[Sequence[float]],
        covariances: Sequence[Sequence[Sequence[float]]],
        weights: Sequence[float] | None = None,
    ) -> None:
        mean = torch.tensor(means, dtype=torch.float64)
        covariance = torch.tensor(covariances, dtype=torch.float64)
        weight = torch.ones(len(mean)) if weights is None else torch.tensor(weights)
        if mean.ndim != 2 or covariance.shape != (*mean.shape, mean.shape[1]) or weight.shape != mean.shape[:1]:
            raise ValueError(
                f"means [K, D], covariances [K, D, D] and weights [K] are needed, got "
                f"{list(mean.shape)}, {list(covariance.shape)} and {list(weight.shape)}"
            )
        super().__init__(interpolant, covariance, weight)
        self.register_buffer("means", mean)

    def component_means(self, condition: Condition) -> Tensor:
        return self.means[None]


class ConditionalGaussian(_Gaussians):
    """E[f_t | x_t, e] in closed form for data N(W e + m, C) that depend on an embedding e, and an independent source.

    The null condition is e = 0. With guidance of scale w the data become N(w W e + m, C).

    Args:
        interpolant: the path.
        weight: W, as D lists of E numbers, D = C * H * W.
        mean: m, D numbers.
        covariance: C, a symmetric positive semi-definite D x D matrix, as nested lists.
        field: name of the condition's field that holds e, E numbers a sample of whatever shape.

    Raises:
        ValueError: if the shapes disagree, or the covariance is not symmetric positive semi-definite.
    """

    weight: Tensor
    mean: Tensor

    def __init__(
        self,
        *,
        interpolant: Interpolant,
        weight: Sequence[Sequence[float]],
        mean: Sequence[float],
        covariance: Sequence[Sequence[float]],
        field: str = "text",
    ) -> None:
        matrix, offset, spread = (torch.tensor(part, dtype=torch.float64) for part in (weight, mean, covariance))
        size = len(offset)
        if matrix.ndim != 2 or matrix.shape[0] != size or spread.shape != (size, size):
            raise ValueError(
                f"weight [D, E], mean [D] and covariance [D, D] are needed, got {list(matrix.shape)}, "
                f"{list(offset.shape)} and {list(spread.shape)}"
            )
        super().__init__(interpolant, spread[None], torch.ones(1))
        self.field = field
        self.register_buffer("weight", matrix)
        self.register_buffer("mean", offset)

    @property
    def has_null(self) -> bool:
        return True

    def null(self, condition: Condition) -> Condition:
        return condition.map(torch.zeros_like)

    def component_means(self, condition: Condition) -> Tensor:
        if self.field not in condition:
            raise ValueError(f"ConditionalGaussian reads the field {self.field!r}, and the condition is {condition}")
        embedding = condition[self.field].double()
        embedding = embedding.reshape(len(embedding), -1)  # a field of one number a sample has the shape [B]
        return (embedding @ self.weight.mT + self.mean)[:, None]
