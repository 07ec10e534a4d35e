r"""A model on another path than it was trained on.

With a Gaussian source every path is data plus noise, x_t = b x1 + n xi, n = sqrt(a^2 + g^2), and only the ratio n/b and
the scale differ between paths. A point of one path is brought to the other by matching the ratio and rescaling; there
the model is asked for E[x1] and E[xi], which are the same on both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.conversions import BOUND, UndeterminedError
from realuid.interpolants import Coefficients, Interpolant, combine
from realuid.matching import MatchingModel, PosteriorMean
from realuid.targets import Data, Noise, Stack, Target

__all__ = ["ReexpressedModel"]


class ReexpressedModel(PosteriorMean):
    """A model with a Gaussian source, re-expressed on another interpolant: an EDM denoiser as a flow-matching teacher.

    Noise levels outside the model's own range are clamped to it: at sigma_max of an EDM denoiser the data are all but
    drowned, and flow matching's t = 0 is sigma = infinity.

    Args:
        model: the model on its native path, which has no latent noise (g = 0).
        interpolant: the path to speak on; may have latent noise.

    Raises:
        ValueError: if the source is not an independent Gaussian, or the native path has latent noise.
        UndeterminedError: if the model does not determine data and noise on its own path.
    """

    def __init__(self, *, model: MatchingModel, interpolant: Interpolant) -> None:
        super().__init__()
        native, coupling = model.interpolant, model.coupling
        if not (coupling.gaussian_source and coupling.independent):
            raise ValueError("only a model with an independent Gaussian source can be put on another path")
        if native.needs_latent:
            raise ValueError(
                f"the native path {type(native).__name__} has latent noise: its data prediction is enough, "
                "train on the path without it"
            )
        self.model, self.interpolant, self.coupling = model, interpolant, coupling

    def predict_at(
        self, k: Coefficients, x_t: Tensor, labels: Tensor, target: Target, x0: Tensor | None = None
    ) -> Tensor:
        native = self.model.interpolant
        n = (k.a**2 + k.g_squared).sqrt()
        s = native.time_at(n / k.b)
        j = native.at(s)
        # Equal inside the common range; outside, that of the two which stays finite.
        scale = torch.where(n > k.b, j.a / n, j.b / k.b)
        means = self.model.predict_at(j, combine([scale], [x_t]), labels, Stack((Data(), Noise())))
        x1, xi = means.chunk(2, dim=1)
        rows = []
        for row in target.rows(k):
            m0, m1, ms = row.mean
            rows.append(combine((m1, (m0 * k.a + ms) / n), (x1, xi)))
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def check(self, target: Target, times: Tensor) -> None:
        k = self.interpolant.at(times)
        n = (k.a**2 + k.g_squared).sqrt()
        self.model.check(Stack((Data(), Noise())), self.model.interpolant.time_at(n / k.b))
        for row in target.rows(k):
            m0, m1, ms = row.mean
            for c in (m1, (m0 * k.a + ms) / n):
                bad = ~(torch.isfinite(c) & (c.abs() <= BOUND))
                if bool(bad.any()):
                    raise UndeterminedError(
                        f"{type(target).__name__} is unbounded at time {float(times[bad][0]):.4g} of "
                        f"{type(self.interpolant).__name__}: keep the times away from there"
                    )
