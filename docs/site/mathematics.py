"""A Markdown extension for docstrings: `.. math::` blocks become MathML, which browsers draw without a script, and `<`
is a character, never the start of a tag."""

from __future__ import annotations

import re

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from mkdocstrings import HeadingShiftingTreeprocessor

START = re.compile(r"^(\s*)\.\. math::\s*(.*)$")


class Mathematics(Extension):
    """Registers the preprocessor below."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.register(_Docstrings(md), "mathematics", 28)


class _Docstrings(Preprocessor):
    """Pages have no such blocks, and pass unchanged."""

    def run(self, lines: list[str]) -> list[str]:
        if HeadingShiftingTreeprocessor.name not in self.md.treeprocessors:
            return lines
        return [re.sub(r"<(?=[\w/!?])", self._less, line) for line in self._with_formulas(lines)]

    def _less(self, found: re.Match[str]) -> str:
        return self.md.htmlStash.store("&lt;")

    def _with_formulas(self, lines: list[str]) -> list[str]:
        """Each block replaced by its MathML: the rest of the directive's line, and the lines indented deeper."""
        out: list[str] = []
        rest = iter([*lines, ""])
        for line in rest:
            while (start := START.match(line)) is not None:
                formula, line = [start[2]], ""
                for line in rest:
                    if not line.strip() and not any(formula):
                        continue  # an empty line between the directive and its formula
                    if len(line) - len(line.lstrip()) <= len(start[1]):
                        break
                    formula.append(line.strip())
                out += ["", self.md.htmlStash.store(mathml(" ".join(formula))), ""]
            out.append(line)
        return out


def mathml(formula: str) -> str:
    """A displayed formula. Several lines are aligned at their `&`, as in Sphinx."""
    if "&" in formula or "\\\\" in formula:
        formula = rf"\begin{{align*}}{formula}\end{{align*}}"
    return f'<div class="formula">{convert(formula, display="block")}</div>'
