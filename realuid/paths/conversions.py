"""Conversions between targets, by linear algebra.

Known about a point of the path: x_t itself, the predicted posterior means, x0 if the model is conditioned on it and,
for a Gaussian source independent of the rest, E[x0] - a S = 0. Unknown: E[x0], E[x1] and S = E[z]/g (see
`realuid.paths.targets`). A wanted target is a linear form in the unknowns; it is determined exactly when it lies in the
span of the known forms.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from realuid.paths.couplings import Coupling
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.targets import Target, cat_rows

BOUND = 1e6
"""Largest coefficient a conversion may have; beyond it the answer is rounding noise even in float64."""


class UndeterminedError(ValueError):
    """The prediction does not determine what is wanted; the message says why."""


class _Known(NamedTuple):
    name: str
    row: Tensor  # [B, 3] in the basis (E[x0], E[x1], S)


def _solve(rows: list[Tensor], wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients `[B, len(rows)]` with sum_i c_i rows_i = wanted, and the relative residual `[B]`.

    One to three rows of three numbers, by Cramer's rule; a missing row is replaced by the normal of the others.
    """
    size = wanted.norm(dim=-1).clamp_min(torch.finfo(wanted.dtype).tiny)
    if len(rows) == 1:
        (r,) = rows
        c = (wanted * r).sum(-1, keepdim=True) / (r * r).sum(-1, keepdim=True)
        return c, (wanted - c * r).norm(dim=-1) / size
    r1, r2 = rows[:2]
    normal = torch.linalg.cross(r1, r2)
    r3 = rows[2] if len(rows) == 3 else normal
    cofactors = torch.stack([torch.linalg.cross(r2, r3), torch.linalg.cross(r3, r1), normal], dim=-2)
    c = (cofactors * wanted.unsqueeze(-2)).sum(-1) / (r3 * normal).sum(-1, keepdim=True)
    if len(rows) == 3:
        return c, torch.zeros_like(size)
    return c[:, :2], (c[:, 2:] * normal).norm(dim=-1) / size


class Conversion:
    """Re-expresses predicted posterior means as those of another target.

    Which knowns to use is settled once, at assembly; a call then costs a closed form per sample.

    Args:
        interpolant: the path.
        coupling: tells whether the source is an independent Gaussian.
        predicted: what the network predicts.
        wanted: what is asked for.
        source_conditioned: whether the prediction is made knowing x0.

    Raises:
        UndeterminedError: if `predicted` and x_t do not determine `wanted` inside the path.
    """

    def __init__(
        self,
        *,
        interpolant: Interpolant,
        coupling: Coupling,
        predicted: Target,
        wanted: Target,
        source_conditioned: bool = False,
    ) -> None:
        self.interpolant, self.coupling = interpolant, coupling
        self.predicted, self.wanted = predicted, wanted
        self.source_conditioned = source_conditioned
        inside = interpolant.at(interpolant.time(torch.linspace(0.02, 0.98, 25, dtype=torch.float64)))
        knowns = self._knowns(inside)
        self.used = [self._choose(knowns, row.posterior(), index) for index, row in enumerate(wanted.rows(inside))]
        self.ends = [self._at_ends(used, index) for index, used in enumerate(self.used)]
        self._latest: tuple[Coefficients, list[tuple[tuple[int, ...], Tensor]]] | None = None

    def _knowns(self, k: Coefficients) -> list[_Known]:
        zero, one = torch.zeros_like(k.a), torch.ones_like(k.a)
        name = type(self.predicted).__name__
        knowns = [_Known(f"{name}[{i}]", row.posterior()) for i, row in enumerate(self.predicted.rows(k))]
        knowns.append(_Known("x_t", torch.stack([k.a, k.b, k.g_squared], dim=-1)))
        if self.source_conditioned:  # given x0, S is E[z | x_t, x0] / g and the Gaussian's relation does not hold
            knowns.append(_Known("x0", torch.stack([one, zero, zero], dim=-1)))
        elif self.coupling.gaussian_source and self.coupling.independent:
            knowns.append(_Known("Gaussian source", torch.stack([one, zero, -k.a], dim=-1)))
        return knowns

    def _choose(self, knowns: list[_Known], wanted: Tensor, index: int) -> tuple[int, ...]:
        """The smallest set of knowns, and among those the best conditioned, that determines the wanted row."""
        for size in (1, 2, 3):
            best: tuple[float, tuple[int, ...]] | None = None
            for chosen in combinations(range(len(knowns)), size):
                c, residual = _solve([knowns[i].row for i in chosen], wanted)
                if bool(torch.isfinite(c).all()) and float(residual.max()) < 1e-9 and float(c.abs().max()) < BOUND:
                    largest = float(c.abs().max())
                    if best is None or largest < best[0]:
                        best = largest, chosen
            if best is not None:
                return best[1]
        raise UndeterminedError(
            f"{type(self.wanted).__name__}[{index}] is not determined on {type(self.interpolant).__name__} by "
            + ", ".join(known.name for known in knowns)
            + ": predict it, or a Stack with one more target"
        )

    def _at_ends(self, used: tuple[int, ...], index: int) -> list[tuple[float, Tensor]]:
        """Where the used knowns coincide or say nothing at an end of the path (a predicted z where g = 0), but fewer of
        them suffice: its time and their coefficients `[len(used)]`."""
        found = []
        for end in (self.interpolant.t_source, self.interpolant.t_data):
            k = self.interpolant.at(torch.tensor([end], dtype=torch.float64))
            knowns, wanted = self._knowns(k), self.wanted.rows(k)[index].posterior()
            for chosen in (part for size in range(len(used), 0, -1) for part in combinations(range(len(used)), size)):
                c, residual = _solve([knowns[used[i]].row for i in chosen], wanted)
                if bool(torch.isfinite(c).all()) and float(residual) < 1e-9 and float(c.abs().max()) < BOUND:
                    if len(chosen) < len(used):
                        found.append(
                            (end, torch.zeros(len(used), dtype=torch.float64).index_put((torch.tensor(chosen),), c[0]))
                        )
                    break
        return found

    def coefficients(self, k: Coefficients) -> list[tuple[tuple[int, ...], Tensor]]:
        """For every wanted row: which knowns are used, and their coefficients `[B, n]`, float64.

        Kept until others are asked for: a one-step student asks for the same ones in every step.
        """
        if self._latest is None or self._latest[0] is not k:
            self._latest = k, self._solved(k)
        return self._latest[1]

    def _solved(self, k: Coefficients) -> list[tuple[tuple[int, ...], Tensor]]:
        knowns, found = self._knowns(k), []
        for used, ends, row in zip(self.used, self.ends, self.wanted.rows(k), strict=True):
            c = _solve([knowns[i].row for i in used], row.posterior())[0]
            for end, there in ends:
                c = torch.where((k.t == end).unsqueeze(-1), there.to(c.device), c)
            found.append((used, c))
        return found

    def check(self, times: Tensor) -> None:
        """Makes sure that the conversion is usable at all of these native times.

        Raises:
            UndeterminedError: naming the first time at which a coefficient is infinite or larger than `BOUND`.
        """
        for _, c in self.coefficients(self.interpolant.at(times)):
            bad = ~(torch.isfinite(c) & (c.abs() <= BOUND)).all(-1)
            if bool(bad.any()):
                raise UndeterminedError(
                    f"{type(self.wanted).__name__} from {type(self.predicted).__name__} is unbounded at time "
                    f"{float(times[bad][0]):.4g} of {type(self.interpolant).__name__}: keep the times away from there, "
                    f"or predict {type(self.wanted).__name__}"
                )

    def __call__(self, k: Coefficients, x_t: Tensor, prediction: Tensor, x0: Tensor | None = None) -> Tensor:
        """The wanted posterior mean `[B, wanted.out_multiplier * C, ...]` at x_t `[B, C, ...]`.

        Args:
            k: the path's coefficients at the times of x_t.
            x_t: points of the path.
            prediction: the predicted posterior mean `[B, predicted.out_multiplier * C, ...]`.
            x0: the source `[B, C, ...]`, for a conditioned prediction.
        """
        values = [*prediction.chunk(self.predicted.out_multiplier, dim=1), x_t]  # the Gaussian row's value is zero
        if self.source_conditioned:
            assert x0 is not None, "a conditioned prediction is converted with its x0"
            values.append(x0)
        rows = []
        for used, c in self.coefficients(k):
            terms = [(c[:, j], values[i]) for j, i in enumerate(used) if i < len(values)]
            # By the Gaussian row alone the answer is zero: E[x0 | x_t] where x_t holds no x0.
            rows.append(combine(*zip(*terms, strict=True)) if terms else torch.zeros_like(x_t))
        return cat_rows(rows)
