"""Along the probability flow by several data predictions at once: DPM-Solver++ of second order."""

from __future__ import annotations

import torch
from torch import Tensor

from realuid.models.matching import PosteriorMean
from realuid.paths.interpolants import Coefficients, combine
from realuid.paths.targets import Data, Target
from realuid.samplers.base import Sampler, Trajectory


class DPMSolver(Sampler):
    r"""DPM-Solver++(2M): one evaluation a step, second order (Lu et al. 2211.01095, algorithm 2).

    With x_t = b x1 + n noise, lambda = log(b / n) and h the step of lambda from t to s:

    .. math:: x_s = \frac{n_s}{n_t} x_t + (b_s - \frac{n_s}{n_t} b_t)\, D, \qquad
              D = E[x_1 | x_t] + \frac{h}{2 h'} (E[x_1 | x_t] - E[x_1 | x_{t'}]),

    where t' is the time before t and h' the step from it. The first step has no time before it and is DDIM's, as is one
    after a step from pure noise, whose h' is infinite. The last returns the data prediction.

    Args:
        steps: number of steps.
        grid: where they lie in time.

    Raises:
        ValueError: if `steps` is less than one.
    """

    def target(self, model: PosteriorMean) -> Target:
        coupling, path = model.coupling, model.interpolant
        noise = coupling.gaussian_source and not model.source_conditioned
        if not noise or (path.needs_z and not coupling.independent):
            raise ValueError(
                "DPMSolver takes all but the data for one Gaussian noise, which it is not with "
                f"{type(coupling).__name__} on {type(path).__name__}: use Euler or Heun"
            )
        return Data()

    def _integrate(self, way: Trajectory, x: Tensor, times: list[float]) -> Tensor:
        before, step_before = None, None
        for t, s in way.steps(times):
            x1 = way.predict(x, t, Data())
            if s == times[-1]:
                break
            k, j = way.at(t), way.at(s)
            step, kept = _log_ratio(j) - _log_ratio(k), j.noise_std / k.noise_std
            mean = x1
            if before is not None and step_before is not None:
                ahead = step / (2 * step_before)
                mean = combine([1 + ahead, -ahead], [x1, before])
            x = combine([kept, j.b - kept * k.b], [x, mean])
            before, step_before = x1, step
        return x1


def _log_ratio(k: Coefficients) -> Tensor:
    """lambda `[B]`, minus infinity where there is no data."""
    return torch.log(k.b) - torch.log(k.noise_std)
