r"""A model on another path than it was trained on.

With a Gaussian source every path is data plus noise, x_t = b x1 + n xi, n = sqrt(a^2 + g^2), and only the ratio n/b and
the scale differ between paths. A point of one path is brought to the other by matching the ratio and rescaling; there
the model is asked for E[x1] and E[xi], which are the same on both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.conditions import Condition
from realuid.models.matching import DerivedModel, PosteriorMean
from realuid.paths.conversions import BOUND, UndeterminedError
from realuid.paths.interpolants import Coefficients, Interpolant, combine
from realuid.paths.targets import Data, Noise, Row, Stack, Target, cat_rows

__all__ = ["ReexpressedModel"]


class ReexpressedModel(DerivedModel):
    """A model with a Gaussian source, re-expressed on another interpolant: an EDM denoiser as a flow-matching teacher.

    Noise levels outside the model's own range are clamped to it: at sigma_max of an EDM denoiser the data are all but
    drowned, and flow matching's t = 0 is sigma = infinity.

    Args:
        model: the model on its native path, which has no noise z (g = 0).
        interpolant: the path that the model is wanted on; it may have noise z.

    Raises:
        ValueError: if the source is not an independent Gaussian, or the native path has noise z.
        UndeterminedError: if the model does not determine data and noise on its own path.
    """

    def __init__(self, *, model: PosteriorMean, interpolant: Interpolant) -> None:
        super().__init__(model)
        native, coupling = model.interpolant, model.coupling
        if not (coupling.gaussian_source and coupling.independent):
            raise ValueError("only a model with an independent Gaussian source can be put on another path")
        if native.needs_z:
            raise ValueError(
                f"the native path {type(native).__name__} has noise z: its data prediction is enough, "
                "train on the path without it"
            )
        self.interpolant, self.coupling = interpolant, coupling

    def predict_at(
        self, k: Coefficients, x_t: Tensor, condition: Condition, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        native = self.model.interpolant
        n = k.noise_std
        j = native.at(native.time_at(k.sigma))
        # Equal inside the common range; outside, that of the two which stays finite.
        scale = torch.where(n > k.b, j.a / n, j.b / k.b)
        means = self.model.predict_at(j, combine([scale], [x_t]), condition, Stack((Data(), Noise())))
        x1, xi = means.chunk(2, dim=1)
        return cat_rows([combine(_of_data_and_noise(row, k), (x1, xi)) for row in target.rows(k)])

    def check(self, target: Target, times: Tensor) -> None:
        k = self.interpolant.at(times)
        self.model.check(Stack((Data(), Noise())), self.model.interpolant.time_at(k.sigma))
        for row in target.rows(k):
            for c in _of_data_and_noise(row, k):
                bad = ~(torch.isfinite(c) & (c.abs() <= BOUND))
                if bool(bad.any()):
                    raise UndeterminedError(
                        f"{type(target).__name__} is unbounded at time {float(times[bad][0]):.4g} of "
                        f"{type(self.interpolant).__name__}: keep the times away from there"
                    )


def _of_data_and_noise(row: Row, k: Coefficients) -> tuple[Tensor, Tensor]:
    """Coefficients of E[x1] and E[xi] in the row's posterior mean: E[x0] = a E[xi] / n and S = E[xi] / n."""
    m0, m1, ms = row.mean
    return m1, (m0 * k.a + ms) / k.noise_std
