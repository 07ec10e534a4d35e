r"""A matching model = network + path + target (+ preconditioning), and its regression loss.

.. math:: L_{UM}(f) = E_{t, (x_0, x_1), z}\, w(t)\, \| f_t(x_t) - f_t(x_0, x_1, z) \|^2

(arXiv 2509.22459, definition 1). Its minimiser is the posterior mean f*_t(x) = E[f_t | x_t = x].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from realuid.conversions import Conversion
from realuid.couplings import Coupling
from realuid.interpolants import Interpolant, combine
from realuid.preconditioning import Preconditioning
from realuid.targets import Target
from realuid.time_samplers import Weight

__all__ = ["MatchingModel"]


class PosteriorMean(nn.Module, ABC):
    """Whatever knows E[f_t | x_t] on a path, for any target: a trained network, or a closed form."""

    interpolant: Interpolant
    coupling: Coupling

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor, labels: Tensor, target: Target) -> Tensor:
        """Posterior mean of `target`.

        Args:
            x_t: points of the path `[B, C, ...]`.
            t: their native times `[B]`, float64.
            labels: class labels `[B]`, int64.
            target: what is asked for.

        Returns:
            `[B, target.height * C, ...]`, differentiable in x_t.
        """

    @abstractmethod
    def check(self, target: Target, times: Tensor) -> None:
        """Makes sure at assembly that `predict` can give `target` at these native times.

        Raises:
            realuid.conversions.UndeterminedError: with the reason, if it cannot.
        """


class MatchingModel(PosteriorMean):
    """A network that predicts the posterior mean of one target, re-expressed as any other by linear algebra.

    Args:
        network: `network(x, time, labels)` with x `[B, C, ...]`, time `[B]`, labels `[B]`, returning
            `[B, target.height * C, ...]`.
        interpolant: the path.
        coupling: how source and data are paired on it.
        target: what the network natively predicts.
        preconditioning: the scalings around the network.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        interpolant: Interpolant,
        coupling: Coupling,
        target: Target,
        preconditioning: Preconditioning,
    ) -> None:
        super().__init__()
        self.network = network
        self.interpolant = interpolant
        self.coupling = coupling
        self.target = target
        self.preconditioning = preconditioning
        self._conversions: dict[Target, Conversion] = {}

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The native prediction `[B, target.height * C, ...]`; arguments as in `predict`."""
        scalings = self.preconditioning(t)
        if scalings is None:
            return self.network(x_t, t.to(x_t.dtype), labels)
        answer = self.network(combine([scalings.into], [x_t]), scalings.noise.to(x_t.dtype), labels)
        skip = torch.cat([x_t] * self.target.height, dim=1) if self.target.height > 1 else x_t
        return combine((scalings.skip, scalings.out), (skip, answer))

    def predict(self, x_t: Tensor, t: Tensor, labels: Tensor, target: Target) -> Tensor:
        prediction = self(x_t, t, labels)
        if target == self.target:  # a predicted quantity is returned as predicted
            return prediction
        return self._conversion(target)(self.interpolant.at(t), x_t, prediction)

    def check(self, target: Target, times: Tensor) -> None:
        if target != self.target:
            self._conversion(target).check(times)

    def _conversion(self, wanted: Target) -> Conversion:
        if wanted not in self._conversions:
            self._conversions[wanted] = Conversion(
                interpolant=self.interpolant, coupling=self.coupling, predicted=self.target, wanted=wanted
            )
        return self._conversions[wanted]


def regression_loss(
    model: MatchingModel,
    *,
    x0: Tensor,
    x1: Tensor,
    z: Tensor | None,
    t: Tensor,
    labels: Tensor,
    weight: Weight,
) -> Tensor:
    """The model's regression loss on its native target: mean over the batch and over the target's entries.

    Args:
        model: the model to train.
        x0: source samples `[B, C, ...]`, already paired with x1.
        x1: data samples `[B, C, ...]`.
        z: latent noise `[B, C, ...]`, None where the path has none.
        t: native times `[B]`.
        labels: class labels `[B]`.
        weight: w(t).

    Returns:
        A scalar.
    """
    k = model.interpolant.at(t)
    x_t = model.interpolant.draw(k, x0, x1, z)
    error = (model(x_t, t, labels) - model.target.sample(k, x0, x1, z)).square().flatten(1).mean(1)
    return torch.mean(weight(t).to(error.dtype) * error)
