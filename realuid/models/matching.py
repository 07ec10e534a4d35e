r"""A matching model = network + path + target (+ preconditioning), and its regression loss.

.. math:: L_{UM}(f) = E_{t, (x_0, x_1), z}\, w(t)\, \| f_t(x_t) - f_t(x_0, x_1, z) \|^2

(arXiv 2509.22459, definition 1). Its minimiser is the posterior mean f*_t(x) = E[f_t | x_t = x].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from realuid.conditions import Condition
from realuid.networks.base import Network
from realuid.paths.conversions import Conversion
from realuid.paths.couplings import Coupling
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.preconditioning import Preconditioning, Scalings
from realuid.paths.targets import Target, cat_rows
from realuid.paths.weights import Weight

__all__ = ["MatchingModel"]


class PosteriorMean(nn.Module, ABC):
    """Whatever knows E[f_t | x_t] on a path, for any target: a trained network, or a closed form.

    A model `source_conditioned` on the source knows E[f_t | x_t, x0] instead.
    """

    interpolant: Interpolant
    coupling: Coupling
    source_conditioned: bool = False

    @property
    def has_null(self) -> bool:
        """Whether there is a condition that tells nothing, for classifier-free guidance."""
        return False

    def null(self, condition: Condition) -> Condition:
        """The condition that tells nothing, for as many samples, with the same fields.

        Raises:
            ValueError: if there is none.
        """
        raise ValueError(f"{type(self).__name__} has no null condition")

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None) -> Tensor:
        """As `predict_at`, at native times t `[B]`, float64."""
        return self.predict_at(self.interpolant.at(t), x_t, condition, target, x0)

    @abstractmethod
    def predict_at(
        self, k: Coefficients, x_t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        """Posterior mean of `target`.

        Args:
            k: the path's coefficients at the times of x_t (`Interpolant.at`).
            x_t: points of the path `[B, C, ...]`.
            condition: what the samples are conditioned on; its fields are those that the network reads, or more.
            target: what is asked for.
            x0: the source `[B, C, ...]`; needed by a conditioned model, ignored by others.

        Returns:
            `[B, target.out_multiplier * C, ...]`, differentiable in x_t.
        """

    @abstractmethod
    def check(self, target: Target, times: Tensor) -> None:
        """Makes sure at assembly that `predict` can give `target` at these native times.

        Raises:
            realuid.paths.conversions.UndeterminedError: with the reason, if it cannot.
            ValueError: if the scalings around a network are not usable there.
        """


class MatchingModel(PosteriorMean):
    """A network that predicts the posterior mean of one target, re-expressed as any other by linear algebra.

    Args:
        network: predicts the target from the scaled x_t; see `Network`.
        interpolant: the path.
        coupling: how source and data are paired on it.
        target: what the network natively predicts.
        preconditioning: the scalings around the network.
        source_conditioned: whether the network is shown x0, as in DDBM (Zhou et al. 2309.16948).

    Raises:
        ValueError: if `source_conditioned` although the path has no noise z: x_t and x0 would already tell x1.
    """

    def __init__(
        self,
        *,
        network: Network,
        interpolant: Interpolant,
        coupling: Coupling,
        target: Target,
        preconditioning: Preconditioning,
        source_conditioned: bool = False,
    ) -> None:
        super().__init__()
        if source_conditioned and not interpolant.needs_z:
            raise ValueError(
                f"a model conditioned on x0 needs noise z in its path; {type(interpolant).__name__} has g = 0, so "
                "that x_t and x0 already tell x1"
            )
        self.network = network
        self.interpolant = interpolant
        self.coupling = coupling
        self.target = target
        self.preconditioning = preconditioning
        self.source_conditioned = source_conditioned
        self._conversions: dict[Target, Conversion] = {}

    def check_network(self, noise: int = 0, student: str = "") -> None:
        """Makes sure at assembly that the network takes and gives as many images as it will be asked for.

        Args:
            noise: images of noise that a student shows it.
            student: the student's name.

        Raises:
            ValueError: naming the argument that does not fit. A multiplier that the network does not state fits.
        """
        name = type(self.network).__name__
        shown = ["x_t", *["x0"] * self.source_conditioned, *["noise"] * noise]
        taken, given = self.network.in_multiplier, self.network.out_multiplier
        if taken not in (None, len(shown)):
            wanted = noise + taken - len(shown)
            other = f", or bind {student}.noise = {wanted}" if student and wanted >= 0 else ""
            raise ValueError(
                f"{name}.in_multiplier = {taken}, but the network is shown {' and '.join(shown)}: bind "
                f"{name}.in_multiplier = {len(shown)} in its scope{other}"
            )
        rows = self.target.out_multiplier
        if given not in (None, rows):
            raise ValueError(
                f"{name}.out_multiplier = {given}, but {type(self.target).__name__} has {rows} rows: bind "
                f"{name}.out_multiplier = {rows}"
            )

    @property
    def has_null(self) -> bool:
        return self.network.has_null

    def null(self, condition: Condition) -> Condition:
        return self.network.null(condition)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition, x0: Tensor | None = None) -> Tensor:
        """What the network natively predicts, `[B, target.out_multiplier * C, ...]`; arguments as in `predict`."""
        return self.predict(x_t, t, condition, self.target, x0)

    def _native(
        self, k: Coefficients, x_t: Tensor, condition: Condition, x0: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        scalings = self.preconditioning(k, self.target)
        # In the precision of x_t again, whatever the network computed in.
        answer = self.network(*self._shown(k, scalings, x_t, x0, noise), condition).to(x_t.dtype)
        if scalings is None:
            return answer
        rows = [
            combine((skip, out), (x_t, part))
            for skip, out, part in zip(
                scalings.c_skip, scalings.c_out, answer.chunk(self.target.out_multiplier, dim=1), strict=True
            )
        ]
        return cat_rows(rows)

    def _shown(
        self, k: Coefficients, scalings: Scalings | None, x_t: Tensor, x0: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Images and time that the network is given."""
        time = k.t if scalings is None else scalings.c_noise
        images = [x_t if scalings is None else combine([scalings.c_in], [x_t])]
        if self.source_conditioned:
            assert x0 is not None, "a conditioned model is asked with its x0"
            images.append(x0)
        if noise is not None:
            images.append(noise)
        return torch.cat(images, dim=1) if len(images) > 1 else images[0], time.to(x_t.dtype)

    def encode(self, k: Coefficients, x_t: Tensor, condition: Condition, x0: Tensor | None = None) -> Tensor:
        """The network's middle features `[B, channels, h, w]`, for a discriminator; arguments as in `predict_at`."""
        shown = self._shown(k, self.preconditioning(k, self.target), x_t, x0, None)
        return self.network.encode(*shown, condition)

    def predict_at(
        self,
        k: Coefficients,
        x_t: Tensor,
        condition: Condition,
        target: Target,
        x0: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """As for every model; `noise` `[B, n * C, ...]` is what a student's network is given beside x_t."""
        return self.converted(k, x_t, self._native(k, x_t, condition, x0, noise), target, x0)

    def converted(
        self, k: Coefficients, x_t: Tensor, prediction: Tensor, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        """What a prediction of the native target says of another one; arguments as in `predict_at`."""
        if target == self.target:  # a predicted quantity is returned as predicted
            return prediction
        return self._conversion(target)(k, x_t, prediction, x0)

    def check(self, target: Target, times: Tensor) -> None:
        self.preconditioning.check_finite(self.interpolant.at(times), self.target)
        if target != self.target:
            self._conversion(target).check(times)

    def _conversion(self, wanted: Target) -> Conversion:
        if wanted not in self._conversions:
            self._conversions[wanted] = Conversion(
                interpolant=self.interpolant,
                coupling=self.coupling,
                predicted=self.target,
                wanted=wanted,
                source_conditioned=self.source_conditioned,
            )
        return self._conversions[wanted]


class DerivedModel(PosteriorMean):
    """A model made from another one, by guidance or re-expression.

    Args:
        model: the other one.
    """

    def __init__(self, model: PosteriorMean) -> None:
        super().__init__()
        self.model = model

    @property
    def has_null(self) -> bool:
        return self.model.has_null

    def null(self, condition: Condition) -> Condition:
        return self.model.null(condition)


def matching_model_of(model: PosteriorMean) -> MatchingModel | None:
    """The model with the network from which this one is derived, or itself; None for a closed form."""
    while isinstance(model, DerivedModel):
        model = model.model
    return model if isinstance(model, MatchingModel) else None


def regression_loss(
    model: MatchingModel,
    *,
    x0: Tensor,
    x1: Tensor,
    z: Tensor | None,
    t: Tensor,
    condition: Condition,
    weight: Weight,
) -> Tensor:
    """The model's regression loss on its native target: mean over the batch and over the target's entries.

    Args:
        model: the model to train.
        x0: source samples `[B, C, ...]`, already paired with x1.
        x1: data samples `[B, C, ...]`.
        z: the path's noise `[B, C, ...]`, None where the path has none.
        t: native times `[B]`.
        condition: of the samples.
        weight: w(t).

    Returns:
        A scalar.
    """
    k = model.interpolant.at(t)
    x_t = model.interpolant.interpolate(k, x0, x1, z)
    difference = model.predict_at(k, x_t, condition, model.target, x0) - model.target.sample(k, x0, x1, z)
    error = difference.square().flatten(1).mean(1)
    return torch.mean(weight(k).to(error.dtype) * error)
