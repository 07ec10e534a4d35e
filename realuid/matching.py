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
from realuid.interpolants import Coefficients, Interpolant, combine
from realuid.preconditioning import Preconditioning, Scalings
from realuid.targets import Target
from realuid.weights import Weight

__all__ = ["MatchingModel"]


class PosteriorMean(nn.Module, ABC):
    """Whatever knows E[f_t | x_t] on a path, for any target: a trained network, or a closed form.

    A model `conditioned` on the source knows E[f_t | x_t, x0] instead.
    """

    interpolant: Interpolant
    coupling: Coupling
    conditioned: bool = False

    def predict(self, x_t: Tensor, t: Tensor, labels: Tensor, target: Target, x0: Tensor | None = None) -> Tensor:
        """As `predict_at`, at native times t `[B]`, float64."""
        return self.predict_at(self.interpolant.at(t), x_t, labels, target, x0)

    @abstractmethod
    def predict_at(
        self, k: Coefficients, x_t: Tensor, labels: Tensor, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        """Posterior mean of `target`.

        Args:
            k: the path's coefficients at the times of x_t (`Interpolant.at`).
            x_t: points of the path `[B, C, ...]`.
            labels: class labels `[B]`, int64.
            target: what is asked for.
            x0: the source `[B, C, ...]`; needed by a conditioned model, ignored by others.

        Returns:
            `[B, target.height * C, ...]`, differentiable in x_t.
        """

    @abstractmethod
    def check(self, target: Target, times: Tensor) -> None:
        """Makes sure at assembly that `predict` can give `target` at these native times.

        Raises:
            realuid.conversions.UndeterminedError: with the reason, if it cannot.
            ValueError: if the scalings around a network are not usable there.
        """


class MatchingModel(PosteriorMean):
    """A network that predicts the posterior mean of one target, re-expressed as any other by linear algebra.

    Args:
        network: `network(x, time, labels)` with x `[B, inputs * C, ...]`, time `[B]`, labels `[B]`, returning
            `[B, target.height * C, ...]`. Beside the scaled x_t, x holds x0 (if `conditioned`) and a student's noise.
        interpolant: the path.
        coupling: how source and data are paired on it.
        target: what the network natively predicts.
        preconditioning: the scalings around the network.
        conditioned: whether the network is shown x0, as in DDBM (Zhou et al. 2309.16948).

    Raises:
        ValueError: if `conditioned` although the path has no latent noise: x_t and x0 would already tell x1.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        interpolant: Interpolant,
        coupling: Coupling,
        target: Target,
        preconditioning: Preconditioning,
        conditioned: bool = False,
    ) -> None:
        super().__init__()
        if conditioned and not interpolant.needs_latent:
            raise ValueError(
                f"a model conditioned on x0 needs latent noise in its path; {type(interpolant).__name__} has g = 0, so "
                "that x_t and x0 already tell x1"
            )
        self.network = network
        self.interpolant = interpolant
        self.coupling = coupling
        self.target = target
        self.preconditioning = preconditioning
        self.conditioned = conditioned
        self._conversions: dict[Target, Conversion] = {}

    def check_network(self, noise: int = 0, student: str = "") -> None:
        """Makes sure at assembly that the network takes and gives as many images as it will be asked for.

        Args:
            noise: images of noise that a student shows it.
            student: the student's name.

        Raises:
            ValueError: naming the argument that does not fit. Networks that state neither `inputs` nor `height` pass.
        """
        name = type(self.network).__name__
        shown = ["x_t", *["x0"] * self.conditioned, *["noise"] * noise]
        taken = getattr(self.network, "inputs", len(shown))
        if taken != len(shown):
            wanted = noise + taken - len(shown)
            other = f", or bind {student}.noise = {wanted}" if student and wanted >= 0 else ""
            raise ValueError(
                f"{name}.inputs = {taken}, but the network is shown {' and '.join(shown)}: bind "
                f"{name}.inputs = {len(shown)} in its scope{other}"
            )
        if getattr(self.network, "height", self.target.height) != self.target.height:
            raise ValueError(
                f"{name}.height = {self.network.height}, but {type(self.target).__name__} has {self.target.height} "
                f"rows: bind {name}.height = {self.target.height}"
            )

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor, x0: Tensor | None = None) -> Tensor:
        """What the network natively predicts, `[B, target.height * C, ...]`; arguments as in `predict`."""
        return self.predict(x_t, t, labels, self.target, x0)

    def _native(self, k: Coefficients, x_t: Tensor, labels: Tensor, x0: Tensor | None, noise: Tensor | None) -> Tensor:
        scalings = self.preconditioning(k, self.target)
        # In the precision of x_t again, whatever the network computed in.
        answer = self.network(*self._shown(k, scalings, x_t, x0, noise), labels).to(x_t.dtype)
        if scalings is None:
            return answer
        rows = [
            combine((skip, out), (x_t, part))
            for skip, out, part in zip(
                scalings.skip, scalings.out, answer.chunk(self.target.height, dim=1), strict=True
            )
        ]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def _shown(
        self, k: Coefficients, scalings: Scalings | None, x_t: Tensor, x0: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Images and time that the network is given."""
        time = k.t if scalings is None else scalings.noise
        images = [x_t if scalings is None else combine([scalings.into], [x_t])]
        if self.conditioned:
            assert x0 is not None, "a conditioned model is asked with its x0"
            images.append(x0)
        if noise is not None:
            images.append(noise)
        return torch.cat(images, dim=1) if len(images) > 1 else images[0], time.to(x_t.dtype)

    def encode(self, k: Coefficients, x_t: Tensor, labels: Tensor, x0: Tensor | None = None) -> Tensor:
        """The network's middle features `[B, channels, h, w]`, for a discriminator; arguments as in `predict_at`."""
        shown = self._shown(k, self.preconditioning(k, self.target), x_t, x0, None)
        return self.network.encode(*shown, labels)  # type: ignore[operator]

    def predict_at(
        self,
        k: Coefficients,
        x_t: Tensor,
        labels: Tensor,
        target: Target,
        x0: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """As for every model; `noise` `[B, n * C, ...]` is what a student's network is given beside x_t."""
        prediction = self._native(k, x_t, labels, x0, noise)
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
                conditioned=self.conditioned,
            )
        return self._conversions[wanted]


def matching_model_of(model: PosteriorMean) -> MatchingModel | None:
    """The model with the network behind guidance or re-expression (their `model`); None for a closed form."""
    inner: object = model
    while inner is not None and not isinstance(inner, MatchingModel):
        inner = getattr(inner, "model", None)
    return inner


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
    difference = model.predict_at(k, x_t, labels, model.target, x0) - model.target.sample(k, x0, x1, z)
    error = difference.square().flatten(1).mean(1)
    return torch.mean(weight(k).to(error.dtype) * error)
