r"""How wrong a teacher is, measured on real data, and how much of it to take away (docs/real_data.md).

The teacher's error is E_real w |f^p - f*|^2, where f^p is the posterior mean that the data really have. That is not
known, but any other model f of the data bounds the error from below. With e = c - f*, d = f - f* and E[c | x_t] = f^p

.. math:: E \langle e, d \rangle = E \langle f^p - f^*, d \rangle, \qquad
          E\, \|f^p - f^*\|^2 \ge \frac{(E \langle e, d \rangle)^2}{E\, \|d\|^2},

with equality where d is a multiple of f^p - f*. Three such models are cheap:

- `fitted_correction`: f* plus, for every entry and every part of the time, an affine function of f* and x_t, by least
  squares on real samples. It needs no training, and on Gaussians it is exact.
- under guidance, the teacher's own network without it;
- a copy of the teacher that was trained further, or another network.

The model must not have been fitted to the samples that it is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from realuid.losses import Terms
from realuid.losses.base import teacher_of

__all__ = ["Correction", "TeacherError", "correction_for", "fitted_correction", "teacher_error"]

RIDGE = 1e-6
"""Of the mean square of the regressors, added to their Gram matrix: an entry that never changes has none of its own."""


@dataclass(frozen=True)
class TeacherError:
    """A lower bound of the teacher's error, in units of the loss: sums over entries, means over samples."""

    squared: float
    deviation: float
    """Standard error of `squared`."""
    loss: float
    """E w |c - f*|^2, the teacher's own regression loss on the same samples."""


def teacher_error(batches: Iterable[Terms]) -> TeacherError:
    """A bound of the teacher's error from real samples.

    Args:
        batches: of real samples, each with f* as `teacher`, the other model's prediction as `fake` at the same x_t, the
            sampled c as `target` and w(t) as `weight`.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    rows = [_sums(terms) for terms in batches]
    inner, square, loss = torch.cat(rows, dim=1) if rows else torch.zeros(3, 0)
    if len(inner) < 2:
        raise ValueError("at least two samples are needed")
    a, b = inner.mean(), square.mean()
    if a <= 0 or b == 0:  # nothing that the other model knows better
        return TeacherError(0.0, float(inner.std() / len(inner) ** 0.5), float(loss.mean()))
    slopes = 2 * a / b * inner - (a / b) ** 2 * square  # of a^2 / b by each sample
    return TeacherError(float(a**2 / b), float(slopes.std() / len(inner) ** 0.5), float(loss.mean()))


def _sums(terms: Terms) -> Tensor:
    """w <e, d>, w |d|^2 and w |e|^2 of each sample `[3, B]`, float64."""
    e, d = (x.detach().double() - teacher_of(terms).detach().double() for x in (terms.target, terms.fake))
    return torch.stack([(x * y).flatten(1).sum(1) * terms.weight for x, y in ((e, d), (d, d), (e, e))])


@dataclass(frozen=True)
class Correction:
    """The teacher with an affine correction of each entry, in each part of the time."""

    ends: Tensor
    """Times `[parts - 1]` at which one part ends and the next begins."""
    slopes: Tensor
    """Of 1, f* and x_t `[parts, entries, 3]`, float64."""

    def __call__(self, terms: Terms) -> Terms:
        """The terms with the corrected teacher in the place of the fake network."""
        part = torch.bucketize(terms.k.t.double(), self.ends)
        added = (self.slopes[part] * _regressors(terms)).sum(2)
        teacher = teacher_of(terms)
        return replace(terms, fake=teacher + added.view_as(teacher).to(teacher.dtype))


def fitted_correction(batches: Iterable[Terms], parts: int = 8) -> Correction:
    """The weighted least squares fit of c - f* on 1, f* and x_t, entry by entry, in parts of the time that hold equally
    many samples.

    Args:
        batches: of real samples, with f* as `teacher` and the sampled c as `target`.
        parts: of the time.

    Raises:
        ValueError: if there are fewer than eight samples for each part.
    """
    rows = list(batches)
    times = torch.cat([terms.k.t.double() for terms in rows]) if rows else torch.zeros(0)
    if len(times) < 8 * parts:
        raise ValueError(f"{8 * parts} samples are needed for {parts} parts of the time, got {len(times)}")
    ends = times.quantile(torch.linspace(0, 1, parts + 1, dtype=torch.float64, device=times.device)[1:-1])
    gram: Tensor | float = 0.0
    cross: Tensor | float = 0.0
    for terms in rows:
        x, e = _regressors(terms), (terms.target.double() - teacher_of(terms).double()).flatten(1)
        of_part = torch.nn.functional.one_hot(torch.bucketize(terms.k.t.double(), ends), parts).double()
        weighted = of_part * terms.weight.double()[:, None]
        gram = gram + torch.einsum("bk,bni,bnj->knij", weighted, x, x)
        cross = cross + torch.einsum("bk,bni,bn->kni", weighted, x, e)
    assert isinstance(gram, Tensor)
    assert isinstance(cross, Tensor)
    size = gram.diagonal(dim1=2, dim2=3).mean(2)[..., None, None]
    gram = gram + RIDGE * size * torch.eye(3, dtype=gram.dtype, device=gram.device)
    return Correction(ends, torch.linalg.solve(gram, cross))


def _regressors(terms: Terms) -> Tensor:
    """1, f* and x_t of each entry `[B, entries, 3]`, float64. A target of several functions has x_t for each."""
    f_star, x_t = teacher_of(terms).double().flatten(1), terms.x_t.double().flatten(1)
    x_t = x_t.repeat(1, f_star.shape[1] // x_t.shape[1])
    return torch.stack([torch.ones_like(f_star), f_star, x_t], dim=2)


def correction_for(error: float, noise: float) -> float:
    """The r of `Reflected` for which bias and noise are least together: error / (error + noise).

    The student keeps (1 - r)^2 of the squared error, and its noise is that of UID times 1 + r^2 (docs/real_data.md).

    Args:
        error: of the teacher, squared.
        noise: of a student of UID at the end of its run, in the same units: the mean of the logged `gap`, which is what
            the fake network finds between teacher and student when they agree.

    Raises:
        ValueError: if one is negative or both are zero.
    """
    if min(error, noise) < 0 or error + noise == 0:
        raise ValueError(f"error and noise must not be negative and not both zero, got {error} and {noise}")
    return error / (error + noise)
