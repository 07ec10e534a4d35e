r"""Kullback-Leibler divergences along the path: Diff-Instruct and DMD.

The generator's gradient is a difference of scores times dx_t/dtheta; the networks are not differentiated. In the data
prediction, score_fake - score* = b (f - f*) / a^2 and dx_t = b dx_1 (with noise g z, a^2 + g^2 for a^2), so that
(f - f*) . dx_1/dtheta with weight w(t) is the gradient of the integral of w(t) a^2/b^2 KL(q_t || p_t), where q and p
are the laws of generated and real x_t.
"""

from __future__ import annotations

from torch import Tensor

from realuid.losses.base import Terms, inner, omega, teacher_of
from realuid.losses.realuid import RealUM
from realuid.paths.interpolants import combine
from realuid.paths.targets import Data, Target


class DiffInstruct(RealUM):
    r"""Diff-Instruct (Luo et al. 2305.18455): integral Kullback-Leibler divergence of generated and real x_t.

    .. math:: \nabla_\theta L_{generator} = \alpha\, E_{gen}\, (f - f^*) \cdot \partial x_1 / \partial \theta

    with f and f* as constants. The fake network regresses on generated samples, or with alpha < 1 on a mixture with a
    share 1 - alpha of real ones: then the divergence is KL(alpha q + (1 - alpha) p || p) (arXiv 2509.22459, appendix
    A.5, lemma 5). The loss's value means nothing, only its gradient does.

    Args:
        target: must be `Data`: the loss is written in the data prediction, where c = x_1.
        alpha: share of generated samples in what the fake network learns, in (0, 1]; 1 is the published method.

    Raises:
        ValueError: if alpha leaves (0, 1] or target is not `Data`.
    """

    differentiates_networks = False

    def __init__(self, *, target: Target, alpha: float = 1.0) -> None:
        super().__init__(target=target, alpha=alpha, beta=alpha)
        if target != Data():
            raise ValueError(f"{type(self).__name__} is written in the data prediction: its target must be Data()")

    def generator_loss(self, generated: Terms) -> Tensor:
        return inner(self.difference(generated).detach(), self.alpha * generated.target, generated.weight)

    def difference(self, generated: Terms) -> Tensor:
        """The gradient with respect to x_1 `[B, ...]`, before weights."""
        return generated.fake - teacher_of(generated)


class DMD(DiffInstruct):
    r"""The distribution-matching part of DMD (Yin et al. 2311.18828, section 3.2) and DMD2 (2405.14867).

    .. math::
        \nabla_\theta L_{generator} = \alpha\, E_{gen}\, \frac{f - f^*}{\omega} \cdot \partial x_1 / \partial \theta

    with f, f* and omega, the mean over a sample's entries of |c - f*|, as constants. As in DMD2's code a quotient that
    is not a number counts nothing. DMD's regression on pairs of the teacher is not part of it; DMD2's GAN is
    `realuid.losses.adversarial`.

    Args:
        target: must be `Data`.
        alpha: share of generated samples in what the fake network learns, in (0, 1]; 1 is the published method.

    Raises:
        ValueError: if alpha leaves (0, 1] or target is not `Data`.
    """

    def difference(self, generated: Terms) -> Tensor:
        quotient = combine([1 / omega(generated)], [super().difference(generated)])
        return quotient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
