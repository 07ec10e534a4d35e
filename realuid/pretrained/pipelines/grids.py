"""Where the pipelines of diffusers evaluate their networks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers import shifted
from realuid.samplers.time_grids import TimeGrid

__all__ = ["FlowMatchGrid", "TableGrid"]


class FlowMatchGrid(TimeGrid):
    """The noise levels of diffusers' schedulers for flow matching: equal steps from `first` to `last`, shifted, then 0.

    Args:
        shift: as `ShiftedGrid.shift`; where it depends on the size of the images, that of this size.
        first: noise level of the first evaluation, before the shift.
        last: of the last one; None for first / steps. `FlowMatchEulerDiscreteScheduler` shifts its smallest level, one
            step of its table, already once before: with 1000 steps and shift 3 it is 3 / 1002.
        terminal: noise level of the last evaluation after all; the levels are stretched to it. None to leave them.

    Raises:
        ValueError: if `shift` is not positive, or not 0 < last <= first <= 1 or 0 < terminal < 1.
    """

    def __init__(
        self, *, shift: float, first: float = 1.0, last: float | None = None, terminal: float | None = None
    ) -> None:
        if shift <= 0:
            raise ValueError(f"shift must be positive, got {shift}")
        if not 0 < (first if last is None else last) <= first <= 1:
            raise ValueError(f"0 < last <= first <= 1 is needed, got first = {first}, last = {last}")
        if terminal is not None and not 0 < terminal < 1:
            raise ValueError(f"0 < terminal < 1 is needed, got {terminal}")
        self.shift, self.first, self.last, self.terminal = shift, first, last, terminal

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        last = self.first / steps if self.last is None else self.last
        levels = shifted(torch.linspace(self.first, last, steps, dtype=torch.float64), self.shift)
        if self.terminal is not None:
            signal = 1 - levels
            levels = 1 - signal * ((1 - self.terminal) / signal[-1]) if float(signal[-1]) > 0 else levels
        return interpolant.time(torch.cat([levels, torch.zeros(1, dtype=torch.float64)]))


class TableGrid(TimeGrid):
    """The entries of DDPM's table that diffusers' schedulers for discrete times visit, then the data.

    Args:
        spacing: `leading`, `linspace` or `trailing` (Lin et al. 2305.08891, table 2), or `solver`: `linspace` with one
            entry more, the last of which is the data.
        offset: added to the entries where spacing is `leading`.

    Raises:
        ValueError: if there is no such spacing; when called, if there are more steps than entries.
    """

    def __init__(self, *, spacing: Literal["leading", "linspace", "trailing", "solver"], offset: int = 0) -> None:
        if spacing not in ("leading", "linspace", "trailing", "solver"):
            raise ValueError(f"spacing must be 'leading', 'linspace', 'trailing' or 'solver', got {spacing!r}")
        self.spacing, self.offset = spacing, offset

    def __call__(self, interpolant: Interpolant, steps: int) -> Tensor:
        entries = round(interpolant.t_source - interpolant.t_data) + 1
        if steps > entries:
            raise ValueError(f"TableGrid has {entries} entries on {type(interpolant).__name__}, not {steps} steps")
        numbers = torch.arange(steps, dtype=torch.float64)
        if self.spacing == "leading":
            times = (numbers * (entries // steps)).flip(0) + self.offset
        elif self.spacing == "linspace":
            times = torch.linspace(entries - 1, 0, steps, dtype=torch.float64).round()
        elif self.spacing == "solver":
            times = torch.linspace(entries - 1, 0, steps + 1, dtype=torch.float64).round()[:-1]
        else:
            times = (entries - numbers * entries / steps).round() - 1
        # The model is never asked at the end; where the first entry is the last step, the end lies beyond the table.
        end = interpolant.t_data if float(times[-1]) > interpolant.t_data else interpolant.t_data - 1
        return torch.cat([times, torch.tensor([end], dtype=torch.float64)])
