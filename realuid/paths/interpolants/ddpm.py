"""DDPM's path, whose time is the index of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from realuid.paths.interpolants.base import MOST_STEPS, Interpolant
from realuid.paths.interpolants.table import Table


class DDPMInterpolant(Interpolant):
    """x_i = sqrt(1 - abar_i) x0 + sqrt(abar_i) x1, abar_i = (1 - beta_0) ... (1 - beta_i) (Ho et al. 2006.11239).

    Time is the index i of the table, from `steps` - 1 (nearly noise) to 0 (x1 with the noise of the first beta): what
    networks of guided-diffusion, DiT and diffusers' DDPM are told. Between the indices log abar runs along monotone
    cubics, so that the path is smooth and its derivatives are finite everywhere.

    Args:
        betas: `linear`, from beta_start to beta_end; `scaled_linear`, whose square roots do; `squaredcos_cap_v2`, with
            abar(s) = cos^2(pi/2 (s + 0.008) / 1.008) and beta at most 0.999 (Nichol & Dhariwal 2102.09672); or the
            numbers themselves.
        steps: how many there are; for given numbers their count.
        beta_start: the first, for the linear ones.
        beta_end: the last, for the linear ones.

    Raises:
        ValueError: if `betas` has another name, there are fewer than two, or one of them leaves (0, 1).
    """

    t_data = 0.0

    def __init__(
        self,
        *,
        betas: str | Sequence[float] = "linear",
        steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ) -> None:
        if steps > MOST_STEPS:
            raise ValueError(f"steps must be at most {MOST_STEPS:,}, got {steps}")
        table = _betas(betas, steps, beta_start, beta_end)
        if len(table) < 2 or not bool(((table > 0) & (table < 1)).all()):
            raise ValueError(f"two or more betas in (0, 1) are needed, got {len(table)} from {betas!r}")
        self._log_abar = Table(torch.arange(len(table)), torch.log1p(-table).cumsum(0))
        self.t_source = float(len(table) - 1)

    def a(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self._log_abar(t))).sqrt()

    def b(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_abar(t) / 2)


def _betas(betas: str | Sequence[float], steps: int, start: float, end: float) -> Tensor:
    """`[steps]`, float64."""
    if not isinstance(betas, str):
        return torch.tensor(list(betas), dtype=torch.float64)
    if betas == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if betas == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    if betas == "squaredcos_cap_v2":
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        abar = torch.cos((share + 0.008) / 1.008 * (math.pi / 2)) ** 2
        return (1 - abar[1:] / abar[:-1]).clamp_max(0.999)
    raise ValueError(f"betas must be 'linear', 'scaled_linear', 'squaredcos_cap_v2' or numbers, got {betas!r}")
