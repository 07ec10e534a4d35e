"""Formulas of time written as text, such as `"cos(pi/2 * t)"`: parsed, checked against a short list, never evaluated.

Derivatives are left to autograd, which multiplies: a factor that is 0 times one that is infinite gives NaN. Three cases
are taken care of. `where` (and `minimum`, `maximum`, which are written with it) differentiates only the branch taken.
Constants are folded. `Expression.squared` squares by algebra. What remains is the author's: `t * sqrt(t)` has
derivative NaN at 0, `t**1.5` has 0.
"""

from realuid.utils.expressions.expression import Expression

__all__ = ["Expression"]
