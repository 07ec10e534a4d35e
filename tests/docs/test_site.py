"""The pages of the reference, and the formulas in them. `mkdocs build --strict` itself is a step of .ci/run."""

import ast
import importlib
import re
import sys

import pytest

from realuid.config.registry import kinds, register_components
from tests.docs.blocks import ROOT

sys.path.append(str(ROOT / "docs" / "site"))
reference = importlib.import_module("reference")


def ours():
    register_components()
    return [kind for kind in kinds() if kind.selector.startswith("realuid.")]


def test_every_component_is_listed_by_kind():
    page = reference.components_page()
    for component in ours():
        place = f"{component.target.__module__}.{component.target.__qualname__}"
        assert f"[`{component.name}`][{place}]" in page
    assert page.index("\n## Interpolant\n") < page.index("`VPInterpolant`") < page.index("\n## LRSchedule\n")


def test_every_module_has_a_page():
    pages = reference.module_pages()
    for component in ours():
        module = component.target.__module__.removeprefix("realuid.")
        assert f"::: realuid.{module}\n" in pages[reference.page_of(module)]
    for path in (ROOT / "realuid").glob("*/[a-z]*.py"):
        assert f"reference/{path.parent.name}/{path.stem}.md" in pages, path


def test_a_package_page_shows_what_is_written_in_its_own_file():
    pages = reference.module_pages()
    assert "members: false" in pages["reference/losses/index.md"]
    assert "'main'" in pages["reference/commands/index.md"]


def test_the_help_of_every_command_is_shown():
    page = reference.commands_page()
    assert "## make_shards" in page
    assert "--dry-run" in page


def docstrings():
    for path in sorted((ROOT / "realuid").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                yield text


def converted(text):
    """As mkdocstrings does it."""
    markdown = pytest.importorskip("markdown")
    rendering = pytest.importorskip("mkdocstrings")
    mathematics = importlib.import_module("mathematics")
    md = markdown.Markdown(extensions=[mathematics.Mathematics()])
    md.treeprocessors.register(rendering.HeadingShiftingTreeprocessor(md, 0), "mkdocstrings_headings", 12)
    return md.convert(text)


def test_formulas_become_mathml_whole():
    formulas = [text for text in docstrings() if ".. math::" in text]
    assert len(formulas) > 15
    for text in formulas:
        page = converted(text)
        assert page.count("<math") == text.count(".. math::")
        for formula in re.findall(r"<math.*?</math>", page, re.DOTALL):
            assert "\\" not in formula  # a command that is not known is left as it is
            assert "<mi>&</mi>" not in formula


def test_a_formula_ends_where_its_block_ends():
    page = converted("Before\n\n.. math::\n    a &= b \\\\\n    c &= d\n\n(eq. 3) after <f, c>.")
    assert page.count("<mtr>") == 2
    assert "(eq. 3) after &lt;f, c&gt;." in page


def test_a_page_keeps_its_tags():
    markdown = pytest.importorskip("markdown")
    pytest.importorskip("mkdocstrings")
    mathematics = importlib.import_module("mathematics")
    assert markdown.markdown("<b>x</b>", extensions=[mathematics.Mathematics()]) == "<p><b>x</b></p>"
