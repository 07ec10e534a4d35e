"""Squares of formulas, by algebra: sqrt(t (1 - t)) has no derivative at the ends for autograd, t (1 - t) has."""

from __future__ import annotations

import ast


def square(node: ast.expr) -> ast.expr:
    """A tree whose value is the square of the node's wherever that is a real number."""
    match node:
        case ast.UnaryOp(operand=operand):
            return square(operand)
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            return ast.BinOp(square(node.left), node.op, square(node.right))
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent) if (power := _number(exponent)) is not None:
            # (E**p)**2: where p is not an integer, E is at least 0 and E**(2p) is the square.
            return _power(square(base), power) if power.is_integer() else _power(base, 2 * power)
        case ast.Call(func=ast.Name(id="sqrt")):
            return node.args[0]
        case ast.Call(func=ast.Name(id="abs")):
            return square(node.args[0])
        case ast.Call(func=ast.Name(id="where")):
            condition, inside, outside = node.args
            return ast.Call(node.func, [condition, square(inside), square(outside)], [])
    return _power(node, 2.0)


def _power(base: ast.expr, power: float) -> ast.expr:
    """base**power, with the powers of powers multiplied where that is an identity, and first powers left out."""
    match base:
        case ast.Call(func=ast.Name(id="sqrt")):
            return _power(base.args[0], power / 2)
        case ast.BinOp(left=inner, op=ast.Pow(), right=exponent) if (first := _number(exponent)) is not None:
            if power.is_integer() or first % 2:  # but (t**2)**0.5 is |t|
                return _power(inner, first * power)
    if power == 1:
        return base
    return ast.BinOp(base, ast.Pow(), ast.Constant(int(power) if power.is_integer() else power))


def _number(node: ast.expr) -> float | None:
    """The value of a plain number such as an exponent, signed or a quotient; None for anything else."""
    match node:
        case ast.Constant(value=(int() | float()) as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            positive = _number(operand)
            return None if positive is None else -positive
        case ast.BinOp(op=ast.Div()):
            over, under = _number(node.left), _number(node.right)
            return over / under if over is not None and under else None
    return None
