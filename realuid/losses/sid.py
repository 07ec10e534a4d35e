r"""Score identity Distillation and its relatives: RealUID's fake network, another share of ||d||^2 for the generator.

At the fake network's optimum without real data, f = f^theta, the generator's loss is 2 (1 - a) E ||f* - f^theta||^2:
UID's distance for a = 1/2, zero for a = 1, negative beyond. Its gradient, not its value, is what a > 1/2 is used for.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from realuid.losses.base import Terms, omega
from realuid.losses.realuid import RealUM
from realuid.paths.targets import Target


class RealSiD(RealUM):
    r"""SiD with real data (arXiv 2509.22459, appendix A.3). The fake network's loss is RealUID's; with d = f* - f

    .. math::
        L_{generator} = E_{gen} \frac{1}{\omega}
            [-2 a \alpha \|d\|^2 + 2\alpha \langle d, f^* \rangle - 2\beta \langle d, c \rangle].

    a = 1/2 with omega = 1 is RealUID.

    Args:
        target: the function that the loss is written in; SiD's own is `Data`.
        alpha: weight of the generated samples' quadratic term, in (0, 1].
        beta: weight of their linear term, in (0, 1].
        a: SiD's alpha, positive; from 0.5 to 1.2. The paper finds real data useful with 0.5, harmful with 1.2.
        normalised: divide by omega, the mean over a sample's entries of |c - f*|, without gradient and at least 1e-5;
            otherwise omega = 1.

    Raises:
        ValueError: if alpha or beta leave (0, 1], alpha = 1 with beta != 1, or a is not positive.
    """

    def __init__(self, *, target: Target, alpha: float, beta: float, a: float, normalised: bool = True) -> None:
        super().__init__(target=target, alpha=alpha, beta=beta)
        if a <= 0:
            raise ValueError(f"a must be positive, got {a}")
        self.a, self.normalised = a, normalised

    def generator_loss(self, generated: Terms) -> Tensor:
        if self.normalised:
            generated = replace(generated, weight=generated.weight / omega(generated))
        return self.descent(generated, self.a)


class SiD(RealSiD):
    r"""Score identity Distillation (Zhou et al. 2404.04057; eq. 5 of 2509.22459).

    The fake network regresses on generated samples, and

    .. math:: L_{generator} = 2\, E_{gen} \frac{1}{\omega} \langle f^* - f,\ (f^* - c) - a (f^* - f) \rangle.

    This is twice the published loss, so that a = 1/2 with omega = 1 is UID as it stands. (SiD's code multiplies by 100
    in addition, which Adam without clipping does not notice.)

    Args:
        target: the function that the loss is written in; SiD's own is `Data`.
        a: SiD's alpha, positive; 1.2 in the paper, 1.0 for AFHQ, 0.5 is exact.
        normalised: divide by omega, the mean over a sample's entries of |c - f*|, without gradient and at least 1e-5;
            otherwise omega = 1.

    Raises:
        ValueError: if a is not positive.
    """

    def __init__(self, *, target: Target, a: float, normalised: bool = True) -> None:
        super().__init__(target=target, alpha=1.0, beta=1.0, a=a, normalised=normalised)


class FGM(SiD):
    r"""Flow Generator Matching (Huang et al. 2410.19310; eq. 7 of 2509.22459) as published.

    The fake network regresses on generated samples, and

    .. math:: L_{generator} = 2\, E_{gen} \langle f^* - f,\ f - c \rangle.

    The objective has a second term, ||f* - f||^2, with which it would be UID; its gradients are dropped. What remains
    is SiD with a = 1 and omega = 1.

    Args:
        target: the function that the loss is written in; FGM's own is `Velocity`.
    """

    def __init__(self, *, target: Target) -> None:
        super().__init__(target=target, a=1.0, normalised=False)
