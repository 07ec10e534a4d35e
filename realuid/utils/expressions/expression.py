"""A formula of named variables, written as text."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from realuid.utils.expressions.compiler import CONSTANTS, FUNCTIONS, Compiler, parse
from realuid.utils.expressions.square import square


@dataclass(frozen=True)
class Expression:
    """A scalar formula of named variables; equal to another one of the same text and variables.

    It knows numbers, its variables, pi and e, `+ - * / **`, sin cos tan sinh cosh tanh atan exp log sqrt abs sigmoid
    erf ndtri, minimum(x, y), maximum(x, y) and where(condition, x, y), where a condition is a comparison.

    Args:
        text: the formula, in Python's notation.
        variables: the names that it may use.

    Raises:
        ValueError: one line that shows the text, if it is not such a formula.
    """

    text: str
    variables: tuple[str, ...]
    _function: Callable[..., Any] = field(init=False, repr=False, compare=False)

    def __init__(self, text: str, variables: Sequence[str]) -> None:
        if isinstance(variables, str) or not variables:
            raise ValueError(f"the variables of an expression are a sequence of names, got {variables!r}")
        for name in variables:
            if not name.isidentifier() or keyword.iskeyword(name) or name in CONSTANTS or name in FUNCTIONS:
                raise ValueError(f"{name!r} cannot be the name of a variable")
        if not isinstance(text, str):
            raise ValueError(f'{text!r} is not a formula: write text, such as "1 - {variables[0]}"')
        object.__setattr__(self, "text", " ".join(text.split()))
        object.__setattr__(self, "variables", tuple(variables))
        object.__setattr__(self, "_function", Compiler(self.text, self.variables).function())

    def __call__(self, **values: Tensor) -> Tensor:
        """The formula at the values of all its variables: tensors that broadcast together, such as `[B]`.

        Returns:
            float64 of the common shape, also where the formula is a constant.

        Raises:
            TypeError: if the values are not those of exactly the variables.
        """
        doubles = {name: value.double() for name, value in values.items()}
        result = self._function(**doubles)
        template = torch.broadcast_tensors(*doubles.values())[0]
        return torch.full_like(template, result) if isinstance(result, float) else result.expand(template.shape)

    def squared(self) -> Expression:
        """The square, by algebra as far as that goes: sqrt(E) gives E, and products, quotients, powers, `where` and
        absolute values are squared part by part; anything else gives (E)**2."""
        return Expression(ast.unparse(square(parse(self.text))), self.variables)

    def __reduce__(self) -> tuple[type[Expression], tuple[str, tuple[str, ...]]]:
        return Expression, (self.text, self.variables)
