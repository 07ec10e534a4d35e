"""Names of components and their arguments, read from the package's source.

Importing the package imports torch, which takes seconds. Its source is read in a tenth of a second, so misspelt names
are refused at once. Whether a value fits its argument is checked later, by the imported classes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from realuid.config.errors import Wrong, nearest
from realuid.config.language import Binding
from realuid.config.registry import COMPONENT_MODULES, is_registered
from realuid.config.table import canonical

__all__ = ["check_spelling", "outlines"]

_PACKAGE = Path(__file__).resolve().parent.parent
_METHODS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Outline:
    """A component as its source states it: its name, and its arguments in their order."""

    name: str
    parameters: tuple[str, ...]


def check_spelling(bindings: Iterable[Binding]) -> None:
    """Makes sure that components of these names, with these arguments, exist.

    Args:
        bindings: of components of this package. Components that are registered already are skipped.

    Raises:
        ConfigError: as `canonical` does.
    """
    for binding in bindings:
        if not is_registered(binding.component):
            canonical(binding, _find)


def _find(name: str) -> Outline:
    found = _outline(name.rpartition(".")[2])
    if found is not None:
        return found
    if is_registered(name):
        return Outline(name, ())
    raise Wrong(f"there is no component {name!r}{nearest(name, outlines())}")


def outlines() -> dict[str, Outline]:
    """Every component of the package by its name."""
    return {name: outline for name in _places() if (outline := _outline(name)) is not None}


@cache
def _outline(name: str) -> Outline | None:
    """The component of this name, None if there is none. Only the files that define it are parsed."""
    module = _places().get(name)
    place = _class(module, name) if module is not None else None
    if place is None or _is_abstract(place[1]):
        return None
    return Outline(name, tuple(_arguments(*place)))


@cache
def _places() -> dict[str, str]:
    """The module that lists a name in its `__all__`, by name."""
    return {name: module for module in COMPONENT_MODULES for name in _listed(module)}


def _listed(module: str) -> list[str]:
    """The names in a module's `__all__`."""
    found = re.search(r"^__all__ = (\[.*?\])$", _text(module), re.MULTILINE | re.DOTALL)
    return list(ast.literal_eval(found[1])) if found else []


@cache
def _text(module: str) -> str:
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_text(module))


def _class(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The class of this name in a module, or where the module imports it from; None for one of another package."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("realuid."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _class(node.module, alias.name)
    return None


def _arguments(module: str, node: ast.ClassDef) -> list[str]:
    """Arguments of a class's constructor: of its own, as fields of a dataclass, or of the first parent that has any."""
    for method in node.body:
        if isinstance(method, _METHODS) and method.name == "__init__":
            told = method.args
            return [argument.arg for argument in (*told.posonlyargs, *told.args, *told.kwonlyargs)][1:]
    parents = [found for base in node.bases if (found := _class(module, ast.unparse(base).partition("[")[0]))]
    inherited = next((names for parent in parents if (names := _arguments(*parent))), [])
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return inherited
    fields = [entry for entry in node.body if isinstance(entry, ast.AnnAssign) and "ClassVar" not in ast.dump(entry)]
    return [*dict.fromkeys([*inherited, *(ast.unparse(field.target) for field in fields)])]


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether the class itself declares an abstract method, or is a protocol."""
    decorators = [ast.unparse(d) for method in node.body if isinstance(method, _METHODS) for d in method.decorator_list]
    return "abstractmethod" in decorators or any("Protocol" in ast.unparse(base) for base in node.bases)
