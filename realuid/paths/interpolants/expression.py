"""A path whose schedules are written as formulas, for frameworks without Python."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realuid.paths.interpolants.base import Interpolant
from realuid.utils.expressions import Expression


class ExpressionInterpolant(Interpolant):
    """x_t = a(t) x0 + b(t) x1 + g(t) z with a, b and g as formulas of t, such as `"cos(pi/2 * t)"`.

    `realuid.utils.expressions` says what a formula may contain. Derivatives are taken by autograd. g is squared by
    algebra, so that sqrt(t*(1-t)) has the finite g g' = (1 - 2t)/2 at the ends.

    Args:
        a: coefficient of the source.
        b: coefficient of the data.
        g: coefficient of the noise z.
        t_source: time of the source end.
        t_data: time of the data end, where noise over data is smallest; it may be the smaller time.

    Raises:
        ValueError: if a formula is not one, is not finite on the path, or its g is the root of a negative number; if
            the ends are not two finite times, or are the wrong way round.
    """

    def __init__(self, *, a: str, b: str, g: str = "0", t_source: float = 0.0, t_data: float = 1.0) -> None:
        if not (math.isfinite(t_source) and math.isfinite(t_data)) or t_source == t_data:
            raise ValueError(f"t_source and t_data must be two different times, got {t_source} and {t_data}")
        self.t_source, self.t_data = t_source, t_data
        self._a, self._b, noise = (_formula(name, text) for name, text in (("a", a), ("b", b), ("g", g)))
        self._g_squared = noise.squared()
        times = self.time(torch.linspace(0, 1, 65, dtype=torch.float64))
        for name, text, values in (("a", a, self.a), ("b", b, self.b), ("g", g, self.g_squared)):
            on_path = values(times)
            bad = ~torch.isfinite(on_path) | ((on_path < -1e-9) & (name == "g"))
            if bool(bad.any()):
                raise ValueError(f"{name} = {text!r} is not a number at t = {float(times[bad][0]):.4g}, on the path")
        at_data, at_source = self.sigma_at(times[[0, -1]]).tolist()
        if at_data > at_source:
            raise ValueError(
                f"noise over data is {at_source:.4g} at t_source = {t_source:g} and {at_data:.4g} at t_data = "
                f"{t_data:g}: exchange t_source and t_data, or a and b"
            )

    def a(self, t: Tensor) -> Tensor:
        return self._a(t=t)

    def b(self, t: Tensor) -> Tensor:
        return self._b(t=t)

    def g_squared(self, t: Tensor) -> Tensor:
        return self._g_squared(t=t)


def _formula(name: str, text: str) -> Expression:
    try:
        return Expression(text, ["t"])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
