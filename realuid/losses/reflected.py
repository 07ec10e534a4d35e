r"""Real data that take away the teacher's own error: targets of real samples, reflected at the teacher.

Write D[m] = m f* - N[m] for a signed density m on the path, where N is linear and gives m times the posterior mean for
a probability density. A teacher that is wrong is the exact posterior mean of another law p*: D[p*] = 0. If the fake
network regresses on c with generated samples (density q) and on 2 f* - c with real ones (density p) of weight r, then

.. math::
    f = \frac{q f^q + r p\,(2 f^* - f^p)}{q + r p}, \qquad f^* - f = \frac{D[q - r p]}{q + r p}.

It vanishes where q - r p is a multiple of p*, which is at q = p + (1 - r)(p* - p): of the teacher's error the share
1 - r is left, whatever function the loss is written in.

D hardly sees how much mass lies where: at the clean end of the path f^q is the same for all weights of modes that lie
apart. A critic does. With targets c + r kappa f* of generated and 2 f* - c - kappa f* of real samples

.. math::
    f^* - f = \frac{D[q - r p] - r \kappa\,(q - p) f^*}{q + r p},

and where D is zero the generator descends r^2 kappa^2 E |f*|^2 (q - p)^2 / (q + r p): for r = 1 the divergence of a
least-squares critic of noised samples, whose answer the fake network adds to its own. It is zero at q = p. With r = 1
the numerator is (1 - kappa) D[q - p] - kappa N[q - p]: at kappa = 1 the data alone tell where the student ends, and the
teacher is no more than the start. docs/real_data.md has the whole of it.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from realuid.losses.base import DistillationLoss, Terms, teacher_of
from realuid.losses.ramp import Ramp

__all__ = ["Reflected"]


class Reflected(DistillationLoss):
    r"""A data-free loss whose fake network also regresses on real samples, on targets reflected at the teacher:

    .. math::
        L_{fake} = L(c + r \kappa f^*)_{gen} + r\, L(2 f^* - c - \kappa f^*)_{real}, \qquad
        L_{generator} = L(c + r \kappa f^*)_{gen}.

    Without a critic (kappa = 0) the student ends at p + (1 - r)(p* - p), where p is the data's law and p* the one that
    the teacher has learnt. With r = 0 it is the loss itself, with r = 1 no trace of the teacher's error is left. A
    critic moves the end of r < 1 towards the data, leaves that of r = 1 where it is, and shortens the way.

    For UID this is General RealUID (arXiv 2509.22459, definition 3) with beta = s = 1 / (1 - r), gamma = s / (2 s - 1),
    alpha = s - kappa (s - 1) and d = (2 s - 1)(f* - f), up to a factor: the quadratic weight with which the fake
    network's target is as large on generated as on real samples, and the parametrisation in which it is as large as
    UID's. Both are finite at s = oo.

    Args:
        loss: RealUID with alpha = beta = 1, SiD, FGM, or another loss without real data.
        correction: r, in [0, 1], the share of the teacher's error that is taken away.
        critic: kappa, at least 0. Above 0 every fake step asks the teacher of the generated samples, too. A loss that
            is normalised by |c - f*| (SiD, DMD) reads the shifted target there; only UID was tried with it.
        ramp: by what r is multiplied over the run, so that it begins as the loss itself; None for r from the start.

    Raises:
        ValueError: if `correction` leaves [0, 1], `critic` is negative, or `loss` uses real data of its own.
    """

    fake_step_needs_teacher = True

    def __init__(
        self, *, loss: DistillationLoss, correction: float, critic: float = 0.0, ramp: Ramp | None = None
    ) -> None:
        super().__init__(target=loss.target)
        if not 0 <= correction <= 1:
            raise ValueError(f"correction must lie in [0, 1], got {correction}")
        if critic < 0:
            raise ValueError(f"critic must not be negative, got {critic}")
        if loss.uses_real_data:
            raise ValueError(
                f"Reflected takes a loss without real data, and this {type(loss).__name__} uses them: "
                "bind its alpha and beta to 1"
            )
        self.loss, self.correction, self.critic, self.ramp = loss, correction, critic, ramp
        self.uses_real_data = correction > 0
        self.differentiates_networks = loss.differentiates_networks
        self.fake_step_needs_generated_teacher = loss.fake_step_needs_teacher or correction * critic > 0

    def at(self, images: int) -> Reflected:
        if self.ramp is None:
            return self
        return Reflected(loss=self.loss, correction=self.correction * self.ramp(images), critic=self.critic)

    def fake_loss(self, generated: Terms, real: Terms | None) -> Tensor:
        loss = self.loss.fake_loss(self._criticised(generated), None)
        if real is not None:
            reflected = replace(real, target=(2 - self.critic) * teacher_of(real) - real.target)
            loss = loss + self.correction * self.loss.fake_loss(reflected, None)
        return loss

    def generator_loss(self, generated: Terms) -> Tensor:
        return self.loss.generator_loss(self._criticised(generated))

    def _criticised(self, generated: Terms) -> Terms:
        weight = self.correction * self.critic
        return replace(generated, target=generated.target + weight * teacher_of(generated)) if weight else generated
