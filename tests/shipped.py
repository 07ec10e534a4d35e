"""The recipes in gin/, and how often each is tried: all of them take hours."""

from pathlib import Path

import pytest

GIN = Path(__file__).parents[1] / "gin"
RECIPES = sorted(path.relative_to(GIN).as_posix() for path in GIN.glob("*.gin"))
EXAMPLES = sorted(path.relative_to(GIN).as_posix() for path in GIN.glob("examples/*.gin"))
KINDS = {
    "smoke.gin",
    "fm_digits.gin",
    "edm_digits.gin",
    "i2sb_digits_sr.gin",
    "ot_digits.gin",
    "fm_digits_text.gin",
    "fm_cifar10.gin",
}
"""One of each kind, which slow tests take."""


def cases(recipes: list[str], *, quick: set[str] | frozenset[str] = frozenset(), slow: set[str] | None = None) -> list:
    """Parameters of a test: these run always, these (`KINDS`) with the slow tests, all others by `-m exhaustive`."""
    found = []
    for name in recipes:
        mark = pytest.mark.slow if name in (KINDS if slow is None else slow) else pytest.mark.exhaustive
        found.append(pytest.param(name, id=name.removesuffix(".gin"), marks=() if name in quick else mark))
    return found
