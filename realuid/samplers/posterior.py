"""The posterior step: from x_t through the data prediction to x_s, part of the noise drawn anew."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from realuid.models.matching import PosteriorMean
from realuid.paths.couplings import Coupling
from realuid.paths.interpolants import Coefficients, combine
from realuid.paths.targets import Data, Noise, Stack, Target
from realuid.samplers.base import Sampler, Trajectory
from realuid.samplers.time_grids import TimeGrid


class PosteriorStep:
    r"""x_s = a_s E[x0] + b_s E[x1] + noise, where the noise is partly that of x_t and partly fresh.

    With a Gaussian source a x0 + g z is all noise, of standard deviation n = sqrt(a^2 + g^2): the known part of it is
    x_t - b_t E[x1]. Where the source is known, or of images, the noise is g z, and x0 the known one or else E[x0].

    .. math:: x_s = c\, x_t + (a_s - c a_t) x_0 + (b_s - c b_t) E[x_1] + n_s \sqrt{1 - \kappa^2}\, \xi,
              \qquad c = \kappa\, n_s / n_t

    (the x0 term only where the noise is g z, so that n is g). kappa^2 = 1 - `redraw`: 0 redraws nothing (DDIM, Song et
    al. 2010.02502; DBIM on bridges, 2405.15885), 1 everything (multistep consistency sampling). `markov` keeps what the
    time-reversed Markov process keeps: DDPM's ancestral sampling (2006.11239), I2SB's on bridges (2302.05872, eq. 4),
    where x0 drops out of the formula.

    Args:
        coupling: where x0 comes from.
        redraw: share in [0, 1] of the noise's variance that is drawn anew, or `markov`.
        knows_source: whether x0 is the sample's own. For the law of x_s to be that of the path it must be E[x0] then,
            too: the data are predicted from x_t and x0.

    Raises:
        ValueError: if `redraw` leaves [0, 1].
    """

    def __init__(self, coupling: Coupling, redraw: float | Literal["markov"], *, knows_source: bool) -> None:
        if redraw != "markov" and not 0 <= redraw <= 1:
            raise ValueError(f"redraw must lie in [0, 1] or be 'markov', got {redraw}")
        self.gaussian = coupling.gaussian_source and not knows_source
        self.redraw, self.knows_source = redraw, knows_source

    @property
    def needs_source(self) -> bool:
        """Whether E[x0] has to be predicted."""
        return not (self.gaussian or self.knows_source or self.redraw == "markov")

    @property
    def draws(self) -> bool:
        """Whether steps draw noise: a bridge's first one always does, since there is none at its source."""
        return self.redraw != 0 or not self.gaussian

    def __call__(
        self, k: Coefficients, j: Coefficients, x_t: Tensor, x0: Tensor, x1: Tensor, fresh: Tensor | None
    ) -> Tensor:
        """x_s `[B, C, ...]`.

        Args:
            k: the path at t.
            j: the path at s.
            x_t: `[B, C, ...]`.
            x0: the source sample or E[x0]; without effect where the source counts as noise.
            x1: E[x1 | x_t].
            fresh: N(0, I); None where nothing is drawn anew.
        """
        n_t, n_s = self._noise(k), self._noise(j)
        known = n_t > 0  # at the source end of a bridge there is no noise to be kept
        ratio = torch.where(known, n_s / torch.where(known, n_t, 1.0), 0.0)
        c = self._kept(k, j, ratio) * ratio
        coefficients, terms = [c, j.b - c * k.b], [x_t, x1]
        if not self.gaussian:
            coefficients, terms = [c, j.a - c * k.a, j.b - c * k.b], [x_t, x0, x1]
        if fresh is not None:
            coefficients.append((n_s.square() - (c * n_t).square()).clamp_min(0).sqrt())
            terms.append(fresh)
        return combine(coefficients, terms)

    def _noise(self, k: Coefficients) -> Tensor:
        """n `[B]`, the standard deviation of the noise in x_t."""
        return k.noise_std if self.gaussian else k.g

    def _kept(self, k: Coefficients, j: Coefficients, ratio: Tensor) -> Tensor:
        """kappa `[B]`."""
        if self.redraw != "markov":
            return torch.full_like(ratio, (1 - self.redraw) ** 0.5)
        return (k.b / j.b) * ratio if self.gaussian else torch.where(ratio > 0, j.a / k.a / ratio, 0.0)


class Posterior(Sampler):
    """Steps from data prediction to data prediction; the last returns it.

    With many steps and `redraw` 0 or `markov` the samples have the law of the path. On a bridge 0 needs a model that is
    told x0 or predicts E[x0]; a source that is noise but depends on the data (minibatch OT) allows 0 alone.

    Args:
        steps: number of steps.
        grid: where they lie in time.
        redraw: share in [0, 1] of the noise's variance that is drawn anew in a step, or `markov`; see `PosteriorStep`.

    Raises:
        ValueError: if `steps` is less than one or `redraw` leaves [0, 1].
    """

    def __init__(self, *, steps: int, grid: TimeGrid, redraw: float | Literal["markov"] = 0.0) -> None:
        super().__init__(steps=steps, grid=grid)
        if redraw != "markov" and not 0 <= redraw <= 1:
            raise ValueError(f"redraw must lie in [0, 1] or be 'markov', got {redraw}")
        self.redraw = redraw

    def _step(self, model: PosteriorMean) -> PosteriorStep:
        return PosteriorStep(model.coupling, self.redraw, knows_source=model.source_conditioned)

    def target(self, model: PosteriorMean) -> Target:
        step = self._step(model)
        if step.gaussian and not model.coupling.independent and (self.redraw != 0 or model.interpolant.needs_z):
            raise ValueError(
                f"{type(self).__name__} takes the source for noise independent of the data, which it is not with "
                f"{type(model.coupling).__name__}: use Euler, or DDIM on a path without noise z"
            )
        return Stack((Data(), Noise())) if step.needs_source else Data()

    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        step, target = self._step(way.model), self.target(way.model)
        for i, (t, s) in enumerate(way.steps(times)):
            means = way.predict(x, t, target).chunk(target.out_multiplier, dim=1)
            x1, x0 = means[0], means[-1] if step.needs_source else way.x0
            if s != times[-1]:
                x = step(way.at(t), way.at(s), x, x0, x1, way.noise(i) if step.draws else None)
        return x1


class DDIM(Posterior):
    """Draws no noise anew: the deterministic sampler of Song et al. 2010.02502, on bridges that of DBIM (2405.15885).

    Args:
        steps: number of steps.
        grid: where they lie in time.

    Raises:
        ValueError: if `steps` is less than one.
    """

    def __init__(self, *, steps: int, grid: TimeGrid) -> None:
        super().__init__(steps=steps, grid=grid, redraw=0.0)

    @property
    def settings(self) -> dict[str, object]:
        return {}


class Ancestral(Posterior):
    """Draws each step from the time-reversed Markov process: DDPM's sampler (Ho et al. 2006.11239), on bridges I2SB's
    (Liu et al. 2302.05872, eq. 4).

    Args:
        steps: number of steps.
        grid: where they lie in time.

    Raises:
        ValueError: if `steps` is less than one.
    """

    def __init__(self, *, steps: int, grid: TimeGrid) -> None:
        super().__init__(steps=steps, grid=grid, redraw="markov")

    @property
    def settings(self) -> dict[str, object]:
        return {}
