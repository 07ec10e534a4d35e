"""Formulas against the same formulas and derivatives by hand, and everything that is refused."""

from __future__ import annotations

import math
import pickle
import re
import time

import pytest
import torch

from realuid.utils.expressions import Expression


def evaluate(text: str, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and derivative of a formula of t."""
    t = t.detach().clone().requires_grad_()
    value = Expression(text, ["t"])(t=t)
    return value.detach(), torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)


# text, and value and derivative by Python's math at one time
FORMULAS = {
    "1 - t": (lambda t: 1 - t, lambda t: -1),
    "cos(pi/2 * t)": (lambda t: math.cos(math.pi / 2 * t), lambda t: -math.pi / 2 * math.sin(math.pi / 2 * t)),
    "sin(t)": (math.sin, math.cos),
    "tan(t)": (math.tan, lambda t: 1 / math.cos(t) ** 2),
    "sinh(t) + cosh(t)": (math.exp, math.exp),
    "tanh(t)": (math.tanh, lambda t: 1 - math.tanh(t) ** 2),
    "atan(t)": (math.atan, lambda t: 1 / (1 + t * t)),
    "exp(-t**2)": (lambda t: math.exp(-t * t), lambda t: -2 * t * math.exp(-t * t)),
    "log(1 + t)": (math.log1p, lambda t: 1 / (1 + t)),
    "sqrt(4 - t)": (lambda t: math.sqrt(4 - t), lambda t: -0.5 / math.sqrt(4 - t)),
    "abs(t - 2)": (lambda t: 2 - t, lambda t: -1),
    "sigmoid(2*t)": (lambda t: 1 / (1 + math.exp(-2 * t)), lambda t: 0.5 / math.cosh(t) ** 2),
    "erf(t)": (math.erf, lambda t: 2 / math.sqrt(math.pi) * math.exp(-t * t)),
    "ndtri((1 + erf(t / sqrt(2))) / 2)": (lambda t: t, lambda t: 1),
    "minimum(t, 0.5)": (lambda t: min(t, 0.5), lambda t: float(t < 0.5)),
    "maximum(0.5, t)": (lambda t: max(t, 0.5), lambda t: float(t > 0.5)),
    "where(0.2 < t <= 0.6, t**3, 1 / (1 + t))": (
        lambda t: t**3 if 0.2 < t <= 0.6 else 1 / (1 + t),
        lambda t: 3 * t * t if 0.2 < t <= 0.6 else -1 / (1 + t) ** 2,
    ),
    "where(1 < 2, t, 0)": (lambda t: t, lambda t: 1),
    "where(2 < 1, 0, where(1 < 2 < t, 0, t))": (lambda t: t, lambda t: 1),
    "where(2 < 1 < 1 + t, 0, t)": (lambda t: t, lambda t: 1),
    "where(t < 0.4, 1, 2)": (lambda t: 1 if t < 0.4 else 2, lambda t: 0),
    "2**t": (lambda t: 2**t, lambda t: math.log(2) * 2**t),
    "(1 + t)**-1.5 * e": (lambda t: math.e * (1 + t) ** -1.5, lambda t: -1.5 * math.e * (1 + t) ** -2.5),
    "-t**2 / 3 + +1e-1": (lambda t: -t * t / 3 + 0.1, lambda t: -2 * t / 3),
    "  1 -\n t ": (lambda t: 1 - t, lambda t: -1),
    "-2**2 + sin(pi/2)": (lambda t: -3, lambda t: 0),
}


@pytest.mark.parametrize("text", FORMULAS)
def test_value_and_derivative(text):
    times = torch.tensor([0.1, 0.35, 0.55, 0.9], dtype=torch.float64)
    value, slope = evaluate(text, times)
    assert value.dtype == torch.float64
    for found, function in ((value, FORMULAS[text][0]), (slope, FORMULAS[text][1])):
        assert found.tolist() == pytest.approx([function(t) for t in times.tolist()], rel=1e-13, abs=1e-15)


def test_shape_and_dtype_are_those_of_the_values_broadcast():
    t, s = torch.rand(4, 1), torch.rand(3, dtype=torch.bfloat16)
    for text in ("t * s", "t", "s", "0.5"):
        value = Expression(text, ("t", "s"))(t=t, s=s)
        assert (value.shape, value.dtype) == ((4, 3), torch.float64)
    torch.testing.assert_close(Expression("t - s", ("t", "s"))(s=s, t=t), t.double() - s.double(), rtol=0, atol=0)


@pytest.mark.parametrize("text", FORMULAS)
def test_on_the_meta_device(text):
    """Where costs are counted on shapes alone; torch loads the meta operations in the caller's scope."""
    assert Expression(text, ["t"])(t=torch.ones(3, device="meta")).shape == (3,)


def test_values_are_those_of_the_variables():
    with pytest.raises(TypeError):
        Expression("t", ["t"])(s=torch.ones(2))
    with pytest.raises(TypeError):
        Expression("t", ["t"])(t=torch.ones(2), s=torch.ones(2))


@pytest.mark.parametrize(
    ("text", "slopes"),
    [
        ("t**2", [0, 2]),
        ("t**1.5", [0, 1.5]),
        ("where(t <= 0, 0, t * log(t))", [0, 1]),
        ("where(t > 0, sqrt(t), -t)", [-1, 0.5]),
        ("where(t == 0, 3*t, where(t >= 1, 5*t, 1 / (t * (1 - t))))", [3, 5]),
        ("maximum(sqrt(t), 0.1)", [0, 0.5]),
        ("minimum(1 / t, 7)", [0, -1]),
    ],
)
def test_derivatives_at_the_ends_are_those_of_the_branch_taken(text, slopes):
    """Autograd alone gives NaN wherever the branch that is not taken, times 0, has an infinite slope."""
    assert evaluate(text, torch.tensor([0.0, 1.0], dtype=torch.float64))[1].tolist() == pytest.approx(slopes)


SQUARES = {
    "sqrt(t*(1-t))": (lambda t: t * (1 - t), lambda t: 1 - 2 * t),
    "0.7 * sqrt(2*t*(1 - t))": (lambda t: 0.98 * t * (1 - t), lambda t: 0.98 * (1 - 2 * t)),
    "-sqrt(t) * (1 - t)**0.5": (lambda t: t * (1 - t), lambda t: 1 - 2 * t),
    "sqrt(t) / (1 + t)": (lambda t: t / (1 + t) ** 2, lambda t: (1 - t) / (1 + t) ** 3),
    "t**(1/2)": (lambda t: t, lambda t: 1),
    "sqrt(t)**3": (lambda t: t**3, lambda t: 3 * t * t),
    "(t**0.5)**3": (lambda t: t**3, lambda t: 3 * t * t),
    "sqrt(t**3)**0.5": (lambda t: t**1.5, lambda t: 1.5 * t**0.5),
    "((t - 0.5)**2)**0.5": (lambda t: (t - 0.5) ** 2, lambda t: 2 * t - 1),
    "((t - 0.5)**2)**0.25": (lambda t: abs(t - 0.5), lambda t: math.copysign(1, t - 0.5)),
    "abs(t - 0.5)": (lambda t: (t - 0.5) ** 2, lambda t: 2 * t - 1),
    "(1 + t)**-0.5": (lambda t: 1 / (1 + t), lambda t: -1 / (1 + t) ** 2),
    "where(t < 0.5, sqrt(t), sqrt(1 - t))": (lambda t: min(t, 1 - t), lambda t: 1 if t < 0.5 else -1),
    "sin(pi*t)**2": (lambda t: math.sin(math.pi * t) ** 4, None),
    "t + 1": (lambda t: (t + 1) ** 2, lambda t: 2 * (t + 1)),
    "t**t": (lambda t: t ** (2 * t), None),
    "2": (lambda t: 4, lambda t: 0),
    "0": (lambda t: 0, lambda t: 0),
}


@pytest.mark.parametrize("text", SQUARES)
def test_squares_by_algebra(text):
    """Value and derivative of the square, at both ends as well, where the root's derivative is infinite."""
    times = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    square = Expression(text, ["t"]).squared()
    value, slope = evaluate(square.text, times)
    assert value.tolist() == pytest.approx([SQUARES[text][0](t) for t in times.tolist()], rel=1e-13, abs=1e-15)
    if SQUARES[text][1] is not None:
        assert slope.tolist() == pytest.approx([SQUARES[text][1](t) for t in times.tolist()], rel=1e-13, abs=1e-15)
    assert square.variables == ("t",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("1 - s", "there is no variable 's'; there are t, pi, e"),
        ("T", "there is no variable 'T'; did you mean t?"),
        ("2*Pi", "there is no variable 'Pi'; did you mean pi?"),
        ("sinus(t)", "there is no function 'sinus'; did you mean sin?"),
        ("sqr(t)", "there is no function 'sqr'; did you mean sqrt?"),
        ("__import__('os')", "there is no function '__import__'; there are sin, cos"),
        ("sin", "sin is a function: write sin(...)"),
        ("t(1 - t)", "t is not a function: write t * (...)"),
        ("(t + 1)(t)", "t + 1 is not a function"),
        ("t.sin()", "the dot in t.sin is not available"),
        ("torch.sin(t)", "the dot in torch.sin is not available"),
        ("t.__class__", "the dot in t.__class__ is not available"),
        ("'t'", "'t' is not a number"),
        ("True", "True is not a number"),
        ("1j", "1j is not a number"),
        ("t^2", "a power is not written ^: write **"),
        ("t // 2", "the operator of t // 2 is not available; there are + - * / **"),
        ("~t", "~t is not available"),
        ("t and 1", "t and 1 is not available"),
        ("t[0]", "t[0] is not available"),
        ("(t, 1)", "(t, 1) is not available"),
        ("t if t else 1", "t if t else 1 is not available"),
        ("sin(t, t)", "sin takes 1 argument, got 2"),
        ("where(t < 1)", "where takes 3 arguments, got 1"),
        ("sin(x=t)", "sin takes plain arguments only"),
        ("sin(*t)", "sin takes plain arguments only"),
        ("t < 1", "the comparison t < 1 belongs into where(condition, x, y)"),
        ("where(t, 1, 2)", "where needs a comparison such as t < 0.5 first, got t"),
        ("where(t in t, 1, 2)", "the comparison t in t is not available; there are < <= > >= == !="),
        ("1 / 0", "1 / 0 is not a finite number"),
        ("t + (-2)**0.5", "(-2) ** 0.5 is not a finite number"),
        ("10**10**10", "10 ** 10 ** 10 is not a finite number"),
        ("log(0) * t", "log(0) is not a finite number"),
        ("2t", "it is not a formula ("),
        ("t = 1", "it is not a formula ("),
        ("t\0", "it is not a formula ("),
        ("(" * 100 + "t", "it is not a formula ("),
    ],
)
def test_refusals(text, reason):
    with pytest.raises(ValueError, match=re.escape(f"in the formula {' '.join(text.split())!r}: {reason}")) as caught:
        Expression(text, ["t"])
    assert "\n" not in str(caught.value)


def nested(form: str, times: int) -> str:
    text = "t"
    for _ in range(times):
        text = form.format(text)
    return text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("+".join("t" * 50_000), "it has more than 4,000 characters"),
        ("-" * 3900 + "t", "it is nested too deeply"),
        (nested("minimum({}, 1)", 40), "it takes more than 20,000 operations"),  # each computes its arguments twice
        (nested("maximum(1, {})", 60), "it takes more than 20,000 operations"),
    ],
    ids=["long", "deep", "minimum", "maximum"],
)
def test_hostile_formulas_cost_nothing(text, reason):
    start = time.process_time()
    with pytest.raises(ValueError, match=f"^in the formula '.*{reason}$") as caught:
        Expression(text, ["t"])
    assert time.process_time() - start < 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", [3, None, 0.5, ["t"]])
def test_what_is_not_text(text):
    with pytest.raises(ValueError, match=re.escape(f'{text!r} is not a formula: write text, such as "1 - t"')):
        Expression(text, ["t"])


@pytest.mark.parametrize("variables", ["t", [], ["pi"], ["sin"], ["2t"], ["lambda"]])
def test_refused_variables(variables):
    with pytest.raises(ValueError, match=r"sequence of names|cannot be the name of a variable"):
        Expression("1", variables)


def test_equality_hash_repr_and_pickle():
    one, same = Expression("1 -  t", ["t"]), Expression(" 1 - t", ("t",))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Expression("1 - t", ["t", "s"])
    assert one != Expression("1-t", ["t"])
    assert repr(one) == "Expression(text='1 - t', variables=('t',))"
    copy = pickle.loads(pickle.dumps(one))
    assert copy == one
    assert copy(t=torch.tensor([0.25])).tolist() == [0.75]


def test_one_graph_under_torch_compile():
    """`fullgraph` raises at the first graph break; the backend runs forward and backward as traced."""
    formula = Expression("where(t < 0.5, sin(pi*t) * s, minimum(t**2, exp(-s))) + 2**t + sqrt(t) / 3", ("t", "s"))
    constant = Expression("1/3", ("t", "s"))

    def function(t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return formula(t=t, s=s) + constant(t=t, s=s)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    t, s = torch.linspace(0.1, 1, 7, dtype=torch.float64, requires_grad=True), torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(compiled(t, s), function(t, s))
    slopes = [torch.autograd.grad(run(t, s).sum(), t)[0] for run in (compiled, function)]
    torch.testing.assert_close(*slopes)
