"""The exact model of jointly Gaussian pairs (x0, x1), by conditioning the joint law of (x0, x1, z) on what is known."""

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.matching import PosteriorMean
from realuid.paths.couplings import Coupling, PairedCoupling
from realuid.paths.interpolants import Interpolant, combine
from realuid.paths.targets import Target


class GaussianPairs(PosteriorMean):
    """E[f_t | x_t], or E[f_t | x_t, x0], for (x0, x1) ~ N(mean, covariance) of vectors `[D]` each, in float64.

    Args:
        mean: `[2 D]`, of (x0, x1).
        covariance: `[2 D, 2 D]`.
    """

    def __init__(
        self,
        interpolant: Interpolant,
        mean: Tensor,
        covariance: Tensor,
        coupling: Coupling | None = None,
        source_conditioned: bool = False,
    ) -> None:
        super().__init__()
        self.interpolant, self.coupling = interpolant, coupling or PairedCoupling()
        self.source_conditioned = source_conditioned
        self.size = len(mean) // 2
        nothing = torch.zeros(self.size, dtype=torch.float64)
        self.mean = torch.cat([mean.double(), nothing])
        self.joint = torch.block_diag(covariance.double(), torch.eye(self.size, dtype=torch.float64))

    def posterior(self, x_t: Tensor, t: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """E[x0], E[x1] and E[z] / g, each `[B, D]`; finite also at the ends of the path."""
        times, which = t.unique(return_inverse=True)
        k = self.interpolant.at(times)
        eye = torch.eye(self.size, dtype=torch.float64)
        matrix = torch.cat([c.view(-1, 1, 1) * eye for c in (k.a, k.b, k.g)], dim=2)  # x_t = matrix (x0, x1, z)
        seen = x_t.double()
        if self.source_conditioned:
            known = torch.cat([eye, 0 * eye, 0 * eye], dim=1).expand(len(times), -1, -1)
            matrix, seen = torch.cat([matrix, known], dim=1), torch.cat([seen, x0.double()], dim=1)
        precision = torch.linalg.pinv(matrix @ self.joint @ matrix.mT, hermitian=True)  # at the source x_t repeats x0
        r = precision[which] @ (seen - (matrix @ self.mean)[which]).unsqueeze(2)
        mean = self.mean + ((self.joint @ matrix.mT)[which] @ r).squeeze(2)
        return mean[:, : self.size], mean[:, self.size : 2 * self.size], r[:, : self.size, 0]

    def predict_at(self, k, x_t, condition, target: Target, x0=None):
        means = self.posterior(x_t, k.t, x0)
        return torch.cat([combine(row.mean, means) for row in target.rows(k)], dim=1).to(x_t.dtype)

    def sampled(self, x_t, t, target: Target, x0=None):
        """The same from the coefficients of the sampled target, those of x0, x1 and z; inside the path."""
        x0, x1, s = self.posterior(x_t, t, x0)
        k = self.interpolant.at(t)
        z = combine([k.g], [s])
        return torch.cat([combine(row.sampled, (x0, x1, z)) for row in target.rows(k)], dim=1)

    def check(self, target, times):
        pass


def pairs(size: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mean `[2 D]` and covariance `[2 D, 2 D]` of pairs that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(2 * size, 2 * size, generator=generator, dtype=torch.float64)
    mean = torch.randn(2 * size, generator=generator, dtype=torch.float64)
    return mean, root @ root.T / (2 * size) + 0.1 * torch.eye(2 * size, dtype=torch.float64)


def schroedinger(s0: float, s1: float, variance: float) -> Tensor:
    """Covariance `[2, 2]` of the pairs of N(., s0^2) and N(., s1^2) whose Brownian bridges of this total variance are
    a Markov process together: entropic transport between Gaussians (Janati et al. 2006.02572, theorem 1)."""
    c = ((4 * s0**2 * s1**2 + variance**2) ** 0.5 - variance) / 2
    return torch.tensor([[s0**2, c], [c, s1**2]], dtype=torch.float64)


def law(sampler, model, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean `[D]` and covariance `[D, D]` of the samples, and their covariance `[D, D]` with x0 ~ N(mean, covariance).

    Without sampling: an affine model makes the samples an affine function of x0 and of every fresh noise, which is read
    off at their unit vectors.
    """
    size = len(mean)
    unit = torch.eye(size, dtype=torch.float64)
    drawn = sampler.steps
    rows = 1 + size * (1 + drawn)
    x0 = torch.zeros(rows, size, dtype=torch.float64)
    x0[1 : 1 + size] = unit
    asked = []

    def noise(k):
        asked.append(k)
        fresh = torch.zeros(rows, size, dtype=torch.float64)
        start = 1 + size * (1 + k)
        fresh[start : start + size] = unit
        return fresh

    x1 = sampler(model, x0, Condition(), noise)
    assert len(asked) == len(set(asked)), "one draw was used twice"
    assert max(asked, default=0) < drawn
    maps = (x1[1:] - x1[0]).view(1 + drawn, size, size)  # maps[i, j]: where unit vector j of source or noise i goes
    from_source, from_noise = maps[0], maps[1:]
    return (
        x1[0] + mean @ from_source,
        from_source.T @ covariance @ from_source + (from_noise.mT @ from_noise).sum(0),
        covariance @ from_source,
    )
