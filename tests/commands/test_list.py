"""`realuid list`: every bindable component is there, with its arguments and what it is."""

import pytest

from realuid.commands import main
from realuid.config import catalogue
from realuid.config.registry import kinds, register_components


def shown(capsys, *words):
    assert main(["list", *words]) == 0
    return capsys.readouterr().out


def test_every_component_is_listed_with_a_sentence(capsys):
    text = shown(capsys)
    register_components()
    for component in kinds():
        if component.selector.startswith("realuid."):
            assert f"\n  {component.name}(" in text, component.name
            sentence = catalogue.summary(component)
            assert 10 < len(sentence) < 300, (component.name, sentence)


def test_kinds_are_base_classes(capsys):
    text = shown(capsys, "couplings".removesuffix("s"))
    assert text.splitlines()[0] == "Coupling"
    assert "MinibatchOT(size, by_label=False, source='gaussian')" in text
    assert "RealUID" not in text


def test_a_component_is_shown_with_types_defaults_and_docstring(capsys):
    text = shown(capsys, "GuidedModel")
    assert "GuidedModel.scale: float, required" in text
    assert "GuidedModel.low: float, default 0.0" in text
    assert "Kynkäänniemi et al." in text


def test_what_may_change_on_resumption_is_said(capsys):
    assert "Trainer.images: int, required; may change when a run is resumed" in shown(capsys, "Trainer")


@pytest.mark.parametrize(("word", "nearest"), [("RealUDI", "RealUID"), ("Copuling", "Coupling")])
def test_a_misspelt_name_gets_the_nearest(capsys, word, nearest):
    assert main(["list", word]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert nearest in error


def test_version(capsys):
    from realuid import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"realuid {__version__}\n"
