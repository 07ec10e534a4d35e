r"""The distillation losses: RealUID and its relatives (arXiv 2509.22459).

Two networks play a min-max game around a frozen teacher f*. With d = f* - f, the sampled target c and E_gen, E_real the
expectations over generated and real samples (time sampler and weight included), General RealUID (definition 3) is

.. math::
    \min_\theta \max_f\ & E_{gen}[-\gamma \|d\|^2 + 2\alpha \langle d, f^* \rangle - 2\beta \langle d, c \rangle] \\
    + & E_{real}[-(1-\gamma) \|d\|^2 + 2(1-\alpha) \langle d, f^* \rangle - 2(1-\beta) \langle d, c \rangle].

The fake network maximises it, the generator minimises the first line, through x_t in f* and f and through c. Neither
real data nor the second line enter the generator's step. gamma = alpha gives RealUID (theorem 2), and alpha = beta = 1
the data-free UID. Everything is written as inner products with d formed first: no division by alpha or 1 - alpha, and
no difference of two nearly equal squares.

Sums run over pixels, means over the batch: the gradient clipping at 1 depends on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from realuid.targets import Target

__all__ = ["GeneralRealUID", "RealUID"]


@dataclass(frozen=True)
class Terms:
    """What a loss sees of a batch of generated or of real samples; functions are `[B, ...]` of one shape."""

    fake: Tensor
    """f at x_t."""
    target: Tensor
    """c, sampled."""
    weight: Tensor
    """w(t) `[B]`."""
    teacher: Tensor | None = None
    """f* at x_t; None in a fake step whose loss does not need it."""


def inner(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted inner product: sum over all but the batch, mean over the batch; a scalar."""
    return ((x * y).flatten(1).sum(1) * weight.to(x.dtype)).mean()


class DistillationLoss(ABC):
    """A min-max distillation loss.

    Args:
        target: the function that the loss is written in. For alpha != beta the objective depends on it.
    """

    fake_step_needs_teacher: bool = False
    uses_real_data: bool = True

    def __init__(self, *, target: Target) -> None:
        self.target = target

    @abstractmethod
    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        """The scalar that the fake network minimises: minus the objective up to terms without f."""

    @abstractmethod
    def generator_loss(self, generated: Terms) -> Tensor:
        """The scalar that the generator minimises; gradients flow through all of `generated`."""


class RealUID(DistillationLoss):
    r"""RealUID (arXiv 2509.22459, theorem 2, eq. 17); UID (theorem 1, eq. 13) is alpha = beta = 1.

    .. math::
        L_{fake} &= E_{gen} \langle f, \alpha f - 2\beta c \rangle
                  + E_{real} \langle f, (1-\alpha) f - 2(1-\beta) c \rangle \\
        L_{generator} &= E_{gen} \langle f^* - f, \alpha (f^* + f) - 2\beta c \rangle

    The first has the gradients of definition 2 (eq. 16), without its divisions by alpha and 1 - alpha.

    Args:
        target: the function that the loss is written in; the paper's is the velocity.
        alpha: weight of the generated samples' quadratic term, in (0, 1]. From scratch 0.90 to 0.98.
        beta: weight of their linear term, in (0, 1]. beta / alpha has the main effect: 0.98 or 1.02 from scratch.

    Raises:
        ValueError: if alpha or beta leave (0, 1], or alpha = 1 with beta != 1 (the distance is infinite where there
            are data and no generated samples).
    """

    def __init__(self, *, target: Target, alpha: float, beta: float) -> None:
        super().__init__(target=target)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value}")
        if alpha == 1 and beta != 1:
            raise ValueError(f"alpha = 1 needs beta = 1, got beta = {beta}: real samples would have no quadratic term")
        self.alpha, self.beta = alpha, beta
        self.uses_real_data = not alpha == beta == 1

    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        loss = _fake_part(generated, self.alpha, self.beta)
        if real is not None:
            loss = loss + _fake_part(real, 1 - self.alpha, 1 - self.beta)
        return loss

    def generator_loss(self, generated: Terms) -> Tensor:
        teacher, fake = _teacher(generated), generated.fake
        mixed = self.alpha * (teacher + fake) - 2 * self.beta * generated.target
        return inner(teacher - fake, mixed, generated.weight)


def _fake_part(terms: Terms, quadratic: float, linear: float) -> Tensor:
    return inner(terms.fake, quadratic * terms.fake - 2 * linear * terms.target, terms.weight)


def _teacher(terms: Terms) -> Tensor:
    assert terms.teacher is not None, "this loss needs the teacher's prediction"
    return terms.teacher


class GeneralRealUID(DistillationLoss):
    r"""General RealUID(alpha, beta, gamma) (arXiv 2509.22459, definition 3, lemma 4).

    Args:
        target: the function that the loss is written in.
        alpha: weight of the generated samples in the term <d, f*>.
        beta: weight of the generated samples in the term <d, c>.
        gamma: weight of the generated samples in the quadratic term, in (0, 1]; gamma = alpha with the standard
            parametrisation is RealUID.
        parametrisation: how d is written in the fake network f: `standard` is d = f* - f, `beta` is d = beta (f* - f),
            with which f stays close to the generator's own function near the solution.

    Raises:
        ValueError: if gamma leaves (0, 1] (the inner maximum is infinite), if gamma = 1 although real samples enter
            the linear terms, or if beta = 0 with the `beta` parametrisation.
    """

    fake_step_needs_teacher = True

    def __init__(
        self,
        *,
        target: Target,
        alpha: float,
        beta: float,
        gamma: float,
        parametrisation: Literal["standard", "beta"] = "standard",
    ) -> None:
        super().__init__(target=target)
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {gamma}: the inner maximum is infinite")
        if gamma == 1 and not alpha == beta == 1:
            raise ValueError("gamma = 1 needs alpha = beta = 1: real samples would have no quadratic term")
        if parametrisation == "beta" and beta == 0:
            raise ValueError("the beta parametrisation d = beta (f* - f) needs beta != 0")
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.kappa = beta if parametrisation == "beta" else 1.0
        self.uses_real_data = not alpha == beta == gamma == 1

    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        loss = -self._part(generated, self.alpha, self.beta, self.gamma)
        if real is not None:
            loss = loss - self._part(real, 1 - self.alpha, 1 - self.beta, 1 - self.gamma)
        return loss

    def generator_loss(self, generated: Terms) -> Tensor:
        return self._part(generated, self.alpha, self.beta, self.gamma)

    def _part(self, terms: Terms, alpha: float, beta: float, gamma: float) -> Tensor:
        """One line of the objective: <d, 2 alpha f* - 2 beta c - gamma d>."""
        teacher = _teacher(terms)
        d = self.kappa * (teacher - terms.fake)
        return inner(d, 2 * alpha * teacher - 2 * beta * terms.target - gamma * d, terms.weight)


def gap(terms: Terms) -> Tensor:
    """Mean squared distance ||f* - f||^2 between teacher and fake, a scalar; with the fake at its optimum, UID's."""
    difference = (_teacher(terms) - terms.fake).detach()
    return inner(difference, difference, torch.ones_like(terms.weight))
