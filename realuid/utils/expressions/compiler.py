"""The text of a formula as a function, by way of a tree that is checked against a short list.

The checked tree is rebuilt from nothing but numbers, variables and the functions below, and compiled once, so that a
call runs the same torch operations as a formula written in Python.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor

CONSTANTS = {"pi": math.pi, "e": math.e}

FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "sin": (torch.sin, 1),
    "cos": (torch.cos, 1),
    "tan": (torch.tan, 1),
    "sinh": (torch.sinh, 1),
    "cosh": (torch.cosh, 1),
    "tanh": (torch.tanh, 1),
    "atan": (torch.atan, 1),
    "exp": (torch.exp, 1),
    "log": (torch.log, 1),
    "sqrt": (torch.sqrt, 1),
    "abs": (torch.abs, 1),
    "sigmoid": (torch.sigmoid, 1),
    "erf": (torch.erf, 1),
    "ndtri": (torch.special.ndtri, 1),
    "minimum": (torch.minimum, 2),
    "maximum": (torch.maximum, 2),
    "where": (torch.where, 3),
}
"""Functions of a formula with their numbers of arguments; ndtri is the quantile function of N(0, 1)."""

LONGEST = 4000
"""Characters of a formula."""
COSTLIEST = 20_000
"""Operations of a formula, names and numbers included. minimum(x, y) computes x and y twice each."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def _branches(condition: Tensor, inside: Callable[..., Any], outside: Callable[..., Any], *variables: Tensor) -> Tensor:
    """where(condition, inside, outside) whose derivative ignores the branch that is not taken.

    The gradient of a branch not taken is 0 times its slope, NaN where that is infinite. It reaches the variables
    through a `where` whose other side is detached, and a `where` drops it.
    """
    taken = inside(*[torch.where(condition, v, v.detach()) for v in variables])
    other = outside(*[torch.where(condition, v.detach(), v) for v in variables])
    if isinstance(taken, float):
        taken = torch.full_like(condition, taken, dtype=torch.float64)
    return torch.where(condition, taken, other)


def parse(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


class Compiler:
    """Turns one text into a function; every step gives a float for what is constant, else a tree of tensors."""

    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        self.text, self.variables = text, variables

    def function(self) -> Callable[..., Any]:
        if not self.text:
            self.refuse("it is empty")
        if len(self.text) > LONGEST:
            self.refuse(f"it has more than {LONGEST:,} characters")
        try:
            parsed = parse(self.text)
        except SyntaxError as error:
            self.refuse(f"it is not a formula ({error.msg})")
        except ValueError as error:
            self.refuse(f"it is not a formula ({error})")
        except (RecursionError, MemoryError):
            self.refuse("it is nested too deeply")
        try:
            body = self.lambda_(self.value(parsed))
            if _operations(body, {}) > COSTLIEST:
                self.refuse(f"it takes more than {COSTLIEST:,} operations")
            tree = ast.Expression(body)
            code = compile(ast.fix_missing_locations(tree), f"<{self.text}>", "eval")
        except (RecursionError, MemoryError):
            self.refuse("it is nested too deeply")
        # No `__name__` among the globals: torch.compile would look for these functions in a module of that name.
        scope: dict[str, Any] = {"_branches": _branches, **{name: f for name, (f, _) in FUNCTIONS.items()}}
        return eval(code, scope)  # a tree of our own making, not the text

    def refuse(self, reason: str) -> NoReturn:
        text = self.text if len(self.text) <= 200 else f"{self.text[:200]} ..."
        raise ValueError(f"in the formula {text!r}: {reason[:500]}") from None

    def value(self, node: ast.AST) -> float | ast.expr:
        """What an expression gives."""
        match node:
            case ast.Constant(value=bool() | complex() | str() | bytes() | None):
                self.refuse(f"{node.value!r} is not a number")
            case ast.Constant(value=(int() | float()) as value):
                return self.number(node, lambda: float(value))
            case ast.Name():
                return self.name(node.id)
            case ast.UnaryOp(op=ast.UAdd()):
                return self.value(node.operand)
            case ast.UnaryOp(op=ast.USub()):
                operand = self.value(node.operand)
                return -operand if isinstance(operand, float) else ast.UnaryOp(ast.USub(), operand)
            case ast.BinOp():
                return self.binary(node)
            case ast.Call():
                return self.call(node)
            case ast.Compare():
                self.refuse(f"the comparison {ast.unparse(node)} belongs into where(condition, x, y)")
            case ast.Attribute():
                self.refuse(
                    f"the dot in {ast.unparse(node)} is not available; functions are written bare, as in sin(t)"
                )
        self.refuse(f"{ast.unparse(node)} is not available")

    def name(self, name: str) -> float | ast.expr:
        if name in self.variables:
            return ast.Name(name, ast.Load())
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            self.refuse(f"{name} is a function: write {name}(...)")
        self.refuse(f"there is no variable {name!r}{_hint(name, (*self.variables, *CONSTANTS))}")

    def binary(self, node: ast.BinOp) -> float | ast.expr:
        if isinstance(node.op, ast.BitXor):
            self.refuse("a power is not written ^: write **")
        operation = _BINARY.get(type(node.op))
        if operation is None:
            self.refuse(f"the operator of {ast.unparse(node)} is not available; there are + - * / **")
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(left, float) and isinstance(right, float):
            return self.number(node, lambda: operation(left, right))
        return ast.BinOp(self.tree(left), node.op, self.tree(right))

    def call(self, node: ast.Call) -> float | ast.expr:
        if not isinstance(node.func, ast.Name):
            self.value(node.func)
            self.refuse(f"{ast.unparse(node.func)} is not a function")
        name = node.func.id
        if name not in FUNCTIONS:
            if name in self.variables or name in CONSTANTS:
                self.refuse(f"{name} is not a function: write {name} * (...)")
            self.refuse(f"there is no function {name!r}{_hint(name, FUNCTIONS)}")
        function, arity = FUNCTIONS[name]
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            self.refuse(f"{name} takes plain arguments only")
        if len(node.args) != arity:
            self.refuse(f"{name} takes {arity} argument{'s' * (arity > 1)}, got {len(node.args)}")
        if name == "where":
            return self.branches(self.condition(node.args[0]), self.value(node.args[1]), self.value(node.args[2]))
        values = [self.value(argument) for argument in node.args]
        if all(isinstance(value, float) for value in values):
            return self.number(node, lambda: float(function(*torch.tensor(values, dtype=torch.float64))))
        if name in ("minimum", "maximum"):
            order = ast.LtE() if name == "minimum" else ast.GtE()
            return self.branches(ast.Compare(self.tree(values[0]), [order], [self.tree(values[1])]), *values)
        return ast.Call(ast.Name(name, ast.Load()), [self.tree(value) for value in values], [])

    def branches(
        self, condition: bool | ast.expr, inside: float | ast.expr, outside: float | ast.expr
    ) -> float | ast.expr:
        if isinstance(condition, bool):
            return inside if condition else outside
        variables = [ast.Name(name, ast.Load()) for name in self.variables]
        arguments = [condition, self.lambda_(inside), self.lambda_(outside), *variables]
        return ast.Call(ast.Name("_branches", ast.Load()), arguments, [])

    def condition(self, node: ast.expr) -> bool | ast.expr:
        """What the first argument of `where` gives; 0 < t < 1 is two comparisons."""
        if not isinstance(node, ast.Compare):
            self.refuse(f"where needs a comparison such as t < 0.5 first, got {ast.unparse(node)}")
        values = [self.value(side) for side in (node.left, *node.comparators)]
        parts: list[ast.expr] = []
        for left, order, right in zip(values, node.ops, values[1:], strict=False):
            compare = _COMPARISONS.get(type(order))
            if compare is None:
                self.refuse(f"the comparison {ast.unparse(node)} is not available; there are < <= > >= == !=")
            if not (isinstance(left, float) and isinstance(right, float)):
                parts.append(ast.Compare(self.tree(left), [order], [self.tree(right)]))
            elif not compare(left, right):
                return False
        if not parts:
            return True
        whole, *others = parts
        for part in others:
            whole = ast.BinOp(whole, ast.BitAnd(), part)
        return whole

    def lambda_(self, value: float | ast.expr) -> ast.Lambda:
        names = [ast.arg(name) for name in self.variables]
        arguments = ast.arguments(posonlyargs=[], args=names, kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Lambda(arguments, self.tree(value))

    def tree(self, value: float | ast.expr) -> ast.expr:
        return ast.Constant(value) if isinstance(value, float) else value

    def number(self, node: ast.expr, compute: Callable[[], Any]) -> float:
        try:
            value = compute()
        except (ZeroDivisionError, OverflowError):
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            self.refuse(f"{ast.unparse(node)} is not a finite number")
        return value


def _operations(node: ast.AST, known: dict[int, int]) -> int:
    """Nodes of a tree, those that it shares counted as often as they stand in it: they are computed so often."""
    if id(node) not in known:
        known[id(node)] = 1 + sum(_operations(part, known) for part in ast.iter_child_nodes(node))
    return known[id(node)]


def _hint(name: str, options: Iterable[str]) -> str:
    options = list(options)
    spellings = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), spellings, n=1, cutoff=0.5)
    return f"; did you mean {spellings[close[0]]}?" if close else f"; there are {', '.join(options)}"
