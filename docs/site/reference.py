"""The pages of the reference, made from the package itself: components by kind, commands, a page for each module."""

from __future__ import annotations

import ast
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from realuid.commands import COMMANDS, main
from realuid.config import catalogue
from realuid.config.language import brief
from realuid.config.registry import REQUIRED, Kind, kinds, register_components

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "realuid"
Pages = dict[str, str]
"""Markdown by the path of its page."""


def rooms() -> dict[str, list[str]]:
    """The modules that have a page, by room: their names without `realuid.`."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts and not any(part.startswith("_") for part in parts):
            found.setdefault(parts[0], []).append(".".join(parts))
    return found


def module_pages() -> Pages:
    """`reference/ROOM/MODULE.md` for each module."""
    return {page_of(module): _module_page(module) for modules in rooms().values() for module in modules}


def _module_page(module: str) -> str:
    text = f"# {module}\n\n::: realuid.{module}\n"
    package = PACKAGE.joinpath(*module.split("."), "__init__.py")
    if not package.is_file():
        return text
    # A package gathers names that have a page already; its own page shows what is written in its own file.
    defined = (ast.FunctionDef, ast.ClassDef)
    own = [node.name for node in ast.parse(package.read_text()).body if isinstance(node, defined)]
    return f"{text}    options:\n      members: {own or 'false'}\n"


def page_of(module: str) -> str:
    """The page of `paths.targets` and its like."""
    parts = module.split(".")
    return f"reference/{parts[0]}/{'.'.join(parts[1:]) or 'index'}.md"


def components_page() -> str:
    """Every bindable component under its kind: signature, and the first sentence of its docstring."""
    register_components()
    groups: dict[str, list[Kind]] = {}
    for component in sorted(kinds(), key=lambda kind: kind.name):
        groups.setdefault(catalogue.kind_of(component), []).append(component)

    def lines() -> Iterator[str]:
        yield "# Components by kind\n"
        yield "What a gin file may bind, as `@Name()`. `realuid list [KIND]` and `realuid list NAME` print the same.\n"
        for kind in sorted(groups):
            yield f"## {kind}\n"
            for component in groups[kind]:
                arguments = ", ".join(
                    name if known.default is REQUIRED else f"{name}={brief(known.default, 40)}"
                    for name, known in component.parameters.items()
                )
                place = f"{component.target.__module__}.{component.target.__qualname__}"
                yield f"[`{component.name}`][{place}]`({arguments})`\n:   {catalogue.summary(component)}.\n"

    return "\n".join(lines())


def commands_page() -> str:
    """The help of every command, as it prints it."""
    os.environ["COLUMNS"] = "100"
    text = ["# Commands\n", "`realuid NAME` and `python tools/NAME.py` are the same.\n"]
    for name in COMMANDS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main([name, "--help"])
        text.append(f"## {name}\n\n```text\n{out.getvalue().rstrip()}\n```\n")
    return "\n".join(text)
