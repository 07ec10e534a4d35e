"""Extras that recipes need, which the tests' own dependencies do not bring."""

from importlib.util import find_spec
from pathlib import Path

import pytest

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="adapters need the package peft")
NEEDED = {
    "peft": ("lora",),
    "diffusers": ("base/distillation_text.gin", "networks/pipeline", "tiny_text", "base/pipeline"),
}
"""By what a recipe's name or text shows that it needs a package."""


def skip_without_extras(recipe: Path) -> None:
    """Skips the test if a package that the recipe's components are made of is not installed."""
    text = f"{recipe.name} {recipe.read_text()}"
    for package, words in NEEDED.items():
        if any(word in text for word in words):
            pytest.importorskip(package)
