"""Time samplers that change another one: shifted towards a side, or cut."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from realuid.paths.interpolants import Interpolant
from realuid.paths.time_samplers.base import SMALLEST, TimeSampler, check_part


def shifted(s: Tensor, shift: float) -> Tensor:
    """shift s / (1 + (shift - 1) s) for noise levels s (Esser et al. 2403.03206, eq. 23)."""
    return shift * s / (1 + (shift - 1) * s)


class ShiftedTime(TimeSampler):
    """s' = shift s / (1 + (shift - 1) s) for the noise level s of any other sampler (Esser et al. 2403.03206,
    section 5.3.2).

    On the linear path this multiplies the ratio of noise to data, s / (1 - s), by `shift`: what SD3 does for larger
    images, with shift = 3 at 1024^2.

    Args:
        base: draws s.
        shift: larger than 1 for more noise, smaller for less.

    Raises:
        ValueError: if `shift` is not positive.
    """

    def __init__(self, *, base: TimeSampler, shift: float) -> None:
        if shift <= 0:
            raise ValueError(f"shift must be positive, got {shift}")
        self.base, self.shift = base, shift

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        s = interpolant.noise_level(self.base.quantile(u, interpolant))
        return interpolant.time(shifted(s, self.shift))


class TruncatedTime(TimeSampler):
    """The law of another sampler, conditioned on noise levels in [low, high].

    Args:
        base: the law to cut.
        low: smallest noise level, at least 0 (the data).
        high: largest noise level, at most 1 (the source).

    Raises:
        ValueError: unless 0 <= low < high <= 1; on the first use on a path, if `base` draws nothing between them.
    """

    def __init__(self, *, base: TimeSampler, low: float = 0.0, high: float = 1.0) -> None:
        check_part(low, high)
        self.base, self.low, self.high = base, low, high
        self._parts: WeakKeyDictionary[Interpolant, tuple[float, float]] = WeakKeyDictionary()

    def quantile(self, u: Tensor, interpolant: Interpolant) -> Tensor:
        if interpolant not in self._parts:
            self._parts[interpolant] = self._part(interpolant)
        first, last = self._parts[interpolant]
        return self.base.quantile(first + (last - first) * u.double(), interpolant)

    def _part(self, interpolant: Interpolant) -> tuple[float, float]:
        """The base's probabilities between which its noise levels lie in [low, high], by bisection."""

        def level(u: float) -> float:
            t = self.base.quantile(torch.tensor([u], dtype=torch.float64), interpolant)
            return float(interpolant.noise_level(t))

        least, most = SMALLEST, 1 - SMALLEST
        rising = level(most) > level(least)

        def reached(u: float, bound: float, *, strictly: bool) -> bool:
            """Whether, coming from u = 0, the noise level has reached (or strictly passed) the bound at u."""
            s = level(u) if rising else -level(u)
            bound = bound if rising else -bound
            return s > bound if strictly else s >= bound

        def edge(bound: float, *, strictly: bool) -> tuple[float, float]:
            """Neighbouring probabilities before and after the bound is reached; equal if it is so at once or never."""
            if reached(least, bound, strictly=strictly):
                return least, least
            if not reached(most, bound, strictly=strictly):
                return most, most
            before, after = least, most
            while before < (middle := (before + after) / 2) < after:
                before, after = (before, middle) if reached(middle, bound, strictly=strictly) else (middle, after)
            return before, after

        enters, leaves = (self.low, self.high) if rising else (self.high, self.low)
        first, last = edge(enters, strictly=False)[1], edge(leaves, strictly=True)[0]
        if first >= last:
            raise ValueError(
                f"{type(self.base).__name__} draws no noise levels in [{self.low}, {self.high}] on "
                f"{type(interpolant).__name__}"
            )
        return first, last
