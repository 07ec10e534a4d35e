r"""RealUID and General RealUID (arXiv 2509.22459).

Two networks play a min-max game around a frozen teacher f*. With d = f* - f, the sampled target c and E_gen, E_real the
expectations over generated and real samples (time sampler and weight included), General RealUID (definition 3) is

.. math::
    \min_\theta \max_f\ & E_{gen}[-\gamma \|d\|^2 + 2\alpha \langle d, f^* \rangle - 2\beta \langle d, c \rangle] \\
    + & E_{real}[-(1-\gamma) \|d\|^2 + 2(1-\alpha) \langle d, f^* \rangle - 2(1-\beta) \langle d, c \rangle].

The fake network maximises it, the generator minimises the first line, through x_t in f* and f and through c. Neither
real data nor the second line enter the generator's step. gamma = alpha gives RealUID (theorem 2), and alpha = beta = 1
the data-free UID. Everything is written as inner products with d formed first: no division by alpha or 1 - alpha, and
no difference of two nearly equal squares.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from realuid.losses.base import DistillationLoss, Terms, inner, teacher_of
from realuid.paths.targets import Target


class RealUM(DistillationLoss):
    r"""Base of the losses whose fake network minimises RealUM (arXiv 2509.22459, definition 2, eq. 16):

    .. math::
        L_{fake} = E_{gen} \langle f, \alpha f - 2\beta c \rangle
                 + E_{real} \langle f, (1-\alpha) f - 2(1-\beta) c \rangle,

    which has the gradients of eq. 16 without its divisions by alpha and 1 - alpha. alpha = beta < 1 is a plain
    regression on a mixture of generated and real samples, alpha = beta = 1 one on generated samples alone.
    """

    def __init__(self, *, target: Target, alpha: float, beta: float) -> None:
        super().__init__(target=target)
        check_shares(alpha, beta)
        if alpha == 1 and beta != 1:
            raise ValueError(f"alpha = 1 needs beta = 1, got beta = {beta}: real samples would have no quadratic term")
        self.alpha, self.beta = alpha, beta
        self.uses_real_data = not alpha == beta == 1

    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        loss = _regression(generated, self.alpha, self.beta)
        if real is not None:
            loss = loss + _regression(real, 1 - self.alpha, 1 - self.beta)
        return loss

    def descent(self, generated: Terms, a: float) -> Tensor:
        """E_gen [-2 a alpha ||d||^2 + 2 alpha <d, f*> - 2 beta <d, c>], what the generators of RealUID (a = 1/2) and
        RealSiD minimise."""
        teacher, fake = teacher_of(generated), generated.fake
        mixed = self.alpha * ((2 - 2 * a) * teacher + 2 * a * fake) - 2 * self.beta * generated.target
        return inner(teacher - fake, mixed, generated.weight)


def check_shares(alpha: float, beta: float) -> None:
    """Raises ValueError if the generated samples' shares alpha and beta leave (0, 1]."""
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {value}")


def _regression(terms: Terms, quadratic: float, linear: float) -> Tensor:
    return inner(terms.fake, quadratic * terms.fake - 2 * linear * terms.target, terms.weight)


class RealUID(RealUM):
    r"""RealUID (arXiv 2509.22459, theorem 2, eq. 17); UID (theorem 1, eq. 13) is alpha = beta = 1.

    .. math::
        L_{fake} &= E_{gen} \langle f, \alpha f - 2\beta c \rangle
                  + E_{real} \langle f, (1-\alpha) f - 2(1-\beta) c \rangle \\
        L_{generator} &= E_{gen} \langle f^* - f, \alpha (f^* + f) - 2\beta c \rangle

    Args:
        target: the function that the loss is written in; the paper's is the velocity.
        alpha: weight of the generated samples' quadratic term, in (0, 1]. From scratch 0.90 to 0.98.
        beta: weight of their linear term, in (0, 1]. beta / alpha has the main effect: 0.98 or 1.02 from scratch.

    Raises:
        ValueError: if alpha or beta leave (0, 1], or alpha = 1 with beta != 1 (the distance is infinite where there
            are data and no generated samples).
    """

    def generator_loss(self, generated: Terms) -> Tensor:
        return self.descent(generated, a=0.5)


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
        teacher = teacher_of(terms)
        d = self.kappa * (teacher - terms.fake)
        return inner(d, 2 * alpha * teacher - 2 * beta * terms.target - gamma * d, terms.weight)
