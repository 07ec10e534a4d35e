r"""Exact posterior means for data whose law is known: the perfect teacher.

For x1 ~ sum_k p_k N(m_k, C_k) and an independent x0 ~ N(0, I), x_t given component k is Gaussian with mean b m_k and
covariance S_k = b^2 C_k + (a^2 + g^2) I, hence with r_k = S_k^{-1}(x_t - b m_k)

.. math:: E[x_0 | x_t, k] = a\, r_k, \quad E[x_1 | x_t, k] = m_k + b\, C_k r_k, \quad E[z | x_t, k] / g = r_k,

weighted by the posterior probabilities of the components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.couplings import Coupling, IndependentCoupling
from realuid.interpolants import Coefficients, Interpolant, combine
from realuid.matching import PosteriorMean
from realuid.targets import Target

__all__ = ["GaussianMixture"]


class GaussianMixture(PosteriorMean):
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

    weights: Tensor
    means: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    def __init__(
        self,
        *,
        interpolant: Interpolant,
        means: Sequence[Sequence[float]],
        covariances: Sequence[Sequence[Sequence[float]]],
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.interpolant = interpolant
        self.coupling: Coupling = IndependentCoupling()
        mean = torch.tensor(means, dtype=torch.float64)
        covariance = torch.tensor(covariances, dtype=torch.float64)
        weight = torch.ones(len(mean)) if weights is None else torch.tensor(weights)
        if mean.ndim != 2 or covariance.shape != (*mean.shape, mean.shape[1]) or weight.shape != mean.shape[:1]:
            raise ValueError(
                f"means [K, D], covariances [K, D, D] and weights [K] are needed, got "
                f"{list(mean.shape)}, {list(covariance.shape)} and {list(weight.shape)}"
            )
        if not bool((weight > 0).all()):
            raise ValueError(f"weights must be positive, got {weights}")
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        if not torch.allclose(covariance, covariance.mT) or bool((eigenvalues < -1e-9).any()):
            raise ValueError("covariances must be symmetric and positive semi-definite")
        self.register_buffer("weights", weight.double() / weight.double().sum())
        self.register_buffer("means", mean)
        self.register_buffer("eigenvalues", eigenvalues.clamp_min(0))
        self.register_buffer("eigenvectors", eigenvectors)

    def _components(self, x: Tensor, k: Coefficients) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior probabilities `[B, K]`, r_k `[B, K, D]` and log p_t(x) `[B]` for x `[B, D]` in float64."""
        scale = k.b[:, None, None]
        variances = scale**2 * self.eigenvalues + (k.a**2 + k.g_squared)[:, None, None]  # [B, K, D]
        centred = torch.einsum("kde,bkd->bke", self.eigenvectors, x[:, None] - scale * self.means)
        whitened = centred / variances
        log_density = -0.5 * (centred * whitened + variances.log() + math.log(2 * math.pi)).sum(-1)
        log_joint = log_density + self.weights.log()
        r = torch.einsum("kde,bke->bkd", self.eigenvectors, whitened)
        return torch.softmax(log_joint, dim=-1), r, torch.logsumexp(log_joint, dim=-1)

    def log_density(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p_t(x_t) `[B]`, float64, for x_t `[B, ...]`."""
        return self._components(x_t.double().flatten(1), self.interpolant.at(t))[2]

    def predict_at(
        self, k: Coefficients, x_t: Tensor, labels: Tensor, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        probability, r, _ = self._components(x_t.double().flatten(1), k)
        covariance_r = torch.einsum("kde,ke,kfe,bkf->bkd", self.eigenvectors, self.eigenvalues, self.eigenvectors, r)
        s = torch.einsum("bk,bkd->bd", probability, r)
        x1 = torch.einsum("bk,bkd->bd", probability, self.means + k.b[:, None, None] * covariance_r)
        x0 = k.a[:, None] * s
        parts = [combine(row.mean, (x0, x1, s)) for row in target.rows(k)]
        return torch.cat([part.view_as(x_t) for part in parts], dim=1).to(x_t.dtype)

    def check(self, target: Target, times: Tensor) -> None:
        """Every target is known."""
