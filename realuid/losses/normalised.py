"""RealUID with a normalised difference: the distance itself in place of its square."""

from __future__ import annotations

from torch import Tensor

from realuid.losses.base import SMALLEST, DistillationLoss, Terms, inner, teacher_of
from realuid.losses.realuid import check_shares
from realuid.paths.interpolants import combine
from realuid.paths.targets import Target


class NormalisedRealUID(DistillationLoss):
    r"""Normalised RealUID (arXiv 2509.22459, appendix A.4); normalised UID is alpha = beta = 1. With d = f* - f

    .. math::
        \min_\theta \max_f\ E_{gen} \langle \tfrac{d}{\|d\|}, \alpha f^* - \beta c \rangle
                          + E_{real} \langle \tfrac{d}{\|d\|}, (1-\alpha) f^* - (1-\beta) c \rangle,

    whose inner maximum is the l2 distance E_real || ((beta - alpha) + alpha q/p) f* - beta (q/p) f^theta ||, where p
    and q are the densities of real and generated x_t. Only the direction of d matters: f need not come close to the
    generator's own function. The distance stays finite where there are no generated samples: alpha = 1 is allowed with
    any beta.

    The norm is over all entries of a sample and at least 1e-5: with the fake network started from the teacher d is
    zero, and the first gradients, though finite, are as large as that allows.

    Args:
        target: the function that the loss is written in.
        alpha: weight of the generated samples in the term with f*, in (0, 1].
        beta: weight of the generated samples in the term with c, in (0, 1].

    Raises:
        ValueError: if alpha or beta leave (0, 1].
    """

    fake_step_needs_teacher = True

    def __init__(self, *, target: Target, alpha: float, beta: float) -> None:
        super().__init__(target=target)
        check_shares(alpha, beta)
        self.alpha, self.beta = alpha, beta
        self.uses_real_data = not alpha == beta == 1

    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        loss = -_part(generated, self.alpha, self.beta)
        if real is not None:
            loss = loss - _part(real, 1 - self.alpha, 1 - self.beta)
        return loss

    def generator_loss(self, generated: Terms) -> Tensor:
        return _part(generated, self.alpha, self.beta)


def _part(terms: Terms, alpha: float, beta: float) -> Tensor:
    """One of the objective's two expectations: <d / ||d||, alpha f* - beta c>."""
    teacher = teacher_of(terms)
    d = teacher - terms.fake
    direction = combine([1 / d.flatten(1).norm(dim=1).clamp_min(SMALLEST)], [d])
    return inner(direction, alpha * teacher - beta * terms.target, terms.weight)
