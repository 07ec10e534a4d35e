"""Exact expectations and random batches for the tests of the losses.

Expectations are sums over grid nodes: a batch of N nodes x with weights N p(x) dx has the mean INT p(x) (...) dx.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.losses import Terms
from realuid.models.exact import GaussianMixture
from realuid.paths.interpolants import Coefficients, LinearInterpolant
from realuid.paths.targets import Velocity


class Scene(NamedTuple):
    """Grid nodes; real density p and generated density q there, times the cell's volume; f* and f^theta; the path."""

    x: Tensor  # [N, D]
    p: Tensor  # [N, 1]
    q: Tensor
    teacher: Tensor  # [N, D]
    own: Tensor
    k: Coefficients

    def generated(self, fake, teacher=True, target=None):
        """E_gen is linear in c: with c's mean given x_t, f^theta by definition, it has the same value."""
        target = self.own if target is None else target
        return self._terms(fake, target, self.q, teacher)

    def real(self, fake, teacher=True):
        """Likewise, c has mean f* on real samples."""
        return self._terms(fake, self.teacher, self.p, teacher)

    def _terms(self, fake, target, density, teacher):
        weight = density[:, 0] * len(density)
        return Terms(fake, target, weight, self.teacher if teacher else None, x_t=self.x, k=self.k)

    def optimum(self, s):
        """Eq. 22 for RealUID; else lemma 4: f* - delta_opt / kappa, with delta_opt over (1 - gamma) p + gamma q."""
        p, q = self.p, self.q
        if not s.general:
            return ((1 - s.beta) * p * self.teacher + s.beta * q * self.own) / ((1 - s.alpha) * p + s.alpha * q)
        delta = ((s.beta - s.alpha) * p + s.alpha * q) * self.teacher - s.beta * q * self.own
        return self.teacher - delta / ((1 - s.gamma) * p + s.gamma * q) / s.kappa

    def value(self, s):
        """Eq. 18 and lemma 4."""
        numerator = s.beta * (self.p * self.teacher - self.q * self.own) + s.alpha * (self.q - self.p) * self.teacher
        return (numerator.square().sum(1, keepdim=True) / ((1 - s.gamma) * self.p + s.gamma * self.q)).sum()


def scene(dimension, times, target=None):
    """`times` are pairs of a time and the weight of its integral."""
    part, path = slice(dimension), LinearInterpolant()

    def law(means, covariances):
        matrices = [np.array(c)[part, part].tolist() for c in covariances]
        return GaussianMixture(interpolant=path, means=[m[part] for m in means], covariances=matrices)

    real = law([[1.0, 0.5], [-1.2, 0.0]], [[[0.4, 0.2], [0.2, 0.5]], [[0.6, -0.1], [-0.1, 0.3]]])
    generator = law([[0.3, -0.2]], [[[0.8, 0.3], [0.3, 0.6]]])
    line = torch.linspace(-7, 7, {1: 281, 2: 71}[dimension], dtype=torch.float64)
    x = torch.cartesian_prod(*[line] * dimension).view(-1, dimension)
    pieces, moments = [], []
    for time, weight in times:
        t = torch.full((len(x),), time, dtype=torch.float64)
        moments.append(t)
        volume = weight * (line[1] - line[0]) ** dimension
        densities = [(m.log_density(x, t).exp() * volume)[:, None] for m in (real, generator)]
        pieces.append((x, *densities, *(m.predict(x, t, Condition(), target or Velocity()) for m in (real, generator))))
    return Scene(*map(torch.cat, zip(*pieces, strict=True)), k=path.at(torch.cat(moments)))


NODES, WEIGHTS = np.polynomial.legendre.leggauss(6)
SCENES = {
    "1-D": scene(1, [(0.4, 1.0)]),
    "2-D": scene(2, [(0.4, 1.0)]),
    "1-D over t": scene(1, list(zip(0.5 + 0.45 * NODES, 0.45 * WEIGHTS, strict=True))),
}


def line_law(path, target, t, mean, std):
    """Density and posterior mean, as functions of x `[N, 1]`, on a Gaussian path of x1 ~ N(mean, std^2)."""
    k = path.at(torch.tensor([t], dtype=torch.float64))
    (row,) = target.rows(k)
    variance = k.b**2 * std**2 + k.a**2

    def density(x):
        return torch.exp(-((x - k.b * mean) ** 2) / (2 * variance)) / torch.sqrt(2 * math.pi * variance)

    def field(x):
        r = (x - k.b * mean) / variance
        return row.sampled[0] * k.a * r + row.sampled[1] * (mean + k.b * std**2 * r)

    return density, field


def images(dtype=torch.float64, distance=1.0):
    """Generated and real terms `[4, 3, 5, 5]` of unequal weights; f = f* + distance * noise."""
    generator = torch.Generator().manual_seed(0)
    teacher, noise, target = torch.randn(3, 2, 4, 3, 5, 5, generator=generator, dtype=torch.float64).to(dtype)
    fake, weight = teacher + distance * noise, torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    return [timeless(f.requires_grad_(), c, weight, t) for f, c, t in zip(fake.unbind(), target, teacher, strict=True)]


def timeless(fake, target, weight, teacher=None):
    """For a loss that reads neither x_t nor times."""
    k = LinearInterpolant().at(torch.full((len(fake),), 0.5, dtype=torch.float64))
    return Terms(fake, target, weight, teacher, x_t=torch.zeros_like(fake), k=k)


def dot(x, y, weight):
    """Sum over pixels and channels, mean over the batch, written out."""
    return sum(w * (x[i] * y[i]).sum() for i, w in enumerate(weight)) / len(weight)


def square(x, weight):
    return dot(x, x, weight)


def leaves(terms: Terms) -> Terms:
    """The same terms, each but the weight a leaf of its own that takes a gradient."""
    assert terms.teacher is not None
    functions = (f.detach().clone().requires_grad_() for f in (terms.fake, terms.target, terms.teacher))
    fake, target, teacher = functions
    return replace(terms, fake=fake, target=target, teacher=teacher)


def gradients(loss: Tensor, terms: Terms) -> list[Tensor]:
    """With respect to f, c and f*; zero where the loss does not depend on one."""
    assert terms.teacher is not None
    inputs = (terms.fake, terms.target, terms.teacher)
    return list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
