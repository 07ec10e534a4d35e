"""The gin language: files and command-line bindings become statements. Names are not looked up here."""

from __future__ import annotations

import ast
import math
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realuid.config._gin import gin
from realuid.config.errors import ConfigError
from realuid.config.files import find_file, read, shown

_WORDS = {"true": "True", "false": "False", "none": "None", "null": "None"}
_NOT_A_VALUE = re.compile(r"Failed to parse token '(.*)'", re.DOTALL)


COMMAND_LINE = "--bind"
"""Origin of the bindings of the command line."""


@dataclass(frozen=True)
class Reference:
    """`@scope/Name()`; `@Name` when it is not called."""

    scope: str
    name: str
    called: bool = True

    def __repr__(self) -> str:
        return f"@{in_scope(self.scope, self.name)}{'()' if self.called else ''}"


@dataclass(frozen=True)
class Macro:
    """`%NAME`."""

    name: str

    def __repr__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class Import:
    """`import module`: a plug-in."""

    module: str
    origin: str


@dataclass(frozen=True)
class Binding:
    """`scope/component.argument = value`, or a macro, `argument = value`, whose component is empty."""

    scope: str
    component: str
    argument: str
    value: Any
    origin: str

    @property
    def key(self) -> str:
        return in_scope(self.scope, f"{self.component}.{self.argument}" if self.component else self.argument)

    def __str__(self) -> str:
        return f"{self.key} = {replaced(self.value, _endless)!r}"

    @property
    def brief(self) -> str:
        """The binding as a message shows it."""
        return f"{self.key} = {brief(self.value)}"

    @property
    def place(self) -> str:
        """How an error begins: the file and line, and the binding."""
        return f"{self.origin}: {self.brief}"


class _Endless(float):
    """An infinite number as gin reads it; `inf` would be a name."""

    def __repr__(self) -> str:
        return "1e999" if self > 0 else "-1e999"


def _endless(leaf: Any) -> Any:
    return _Endless(leaf) if isinstance(leaf, float) and math.isinf(leaf) else leaf


def brief(value: Any, width: int = 100) -> str:
    """A value in at most one line."""
    text = written(value)
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def written(value: Any) -> str:
    """A value in one line, an object without its address: the same in every process."""
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(value)).split("\n"))


def in_scope(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope else name


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to everything in it that is not a container."""
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(item, change) for item in value)
    if isinstance(value, dict):
        return {replaced(key, change): replaced(item, change) for key, item in value.items()}
    return change(value)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in `value` that is not a container."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def read_file(path: Path, including: tuple[Path, ...] = ()) -> Iterator[Import | Binding]:
    """The statements of a gin file and of the files it includes.

    Raises ConfigError for a file that cannot be read or parsed, a missing include, or a circle of includes.
    """
    if path in including:
        circle = " > ".join(shown(file) for file in (*including[including.index(path) :], path))
        raise ConfigError(f"{shown(including[-1])}: files include each other in a circle: {circle}")
    yield from read_text(read(path), shown(path), (*including, path))


def read_text(text: str, label: str, including: tuple[Path, ...] = ()) -> Iterator[Import | Binding]:
    """The statements of a gin text; errors call it `label`. Raises as `read_file` does."""
    folders = [*(path.parent for path in including[-1:]), Path.cwd()]
    for statement in _parsed(text, lambda line: f"{label}:{line}"):
        origin = f"{label}:{statement.location.line_num}"
        if isinstance(statement, gin.config_parser.IncludeStatement):
            yield from read_file(find_file(statement.filename, folders, f"{origin}: include"), including)
        elif isinstance(statement, gin.config_parser.ImportStatement):
            yield Import(statement.module, origin)
        elif isinstance(statement, gin.config_parser.BindingStatement):
            yield _binding(statement, origin)


def read_flat(text: str, label: str) -> Iterator[Import | Binding]:
    """The statements of a gin text that includes no file. Raises ConfigError for one that does, and as `read_text`."""
    for statement in _parsed(text, lambda line: f"{label}:{line}"):
        if isinstance(statement, gin.config_parser.IncludeStatement):
            origin = f"{label}:{statement.location.line_num}"
            raise ConfigError(f"{origin}: include {statement.filename!r}: a stored configuration includes no files")
    yield from read_text(text, label)


def read_binding(text: str) -> Binding:
    """The binding of a command line, `Name.argument = value`, where a string needs no quotes of its own.

    References, macros and Python literals are taken as they are, true/false/none/null in any case as Python's; anything
    else is a string. Raises ConfigError for a text of another form.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    if name and value:
        statements = list(_parsed(f"{name} = {_spelled(value)}", lambda line: f"--bind {text!r}"))
        if len(statements) == 1 and isinstance(statements[0], gin.config_parser.BindingStatement):
            return _binding(statements[0], COMMAND_LINE)
    raise ConfigError(f"--bind {text!r}: write it as \"Name.argument = value\" (an empty string is '')")


class _Delegate(gin.config_parser.ParserDelegate):
    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        scope, _, name = scoped_configurable_name.rpartition("/")
        return Reference(scope, name, evaluate)

    def macro(self, macro_name: str) -> Macro:
        return Macro(macro_name)


def _binding(statement: Any, origin: str) -> Binding:
    if statement.arg_name:
        return Binding(statement.scope, statement.selector, statement.arg_name, statement.value, origin)
    return Binding(statement.scope, "", statement.selector, statement.value, origin)


def _parsed(text: str, place: Callable[[int], str]) -> Iterator[Any]:
    try:
        yield from gin.config_parser.ConfigParser(text, _Delegate())
    except SyntaxError as error:
        raise ConfigError(f"{place(error.lineno or 1)}: {_complaint(error)}") from None
    except tokenize.TokenError as error:
        raise ConfigError(f"{place(error.args[1][0])}: {error.args[0]}; is a bracket or a quote left open?") from None
    except (RecursionError, MemoryError):
        raise ConfigError(f"{place(1)}: a value is nested too deep") from None


def _complaint(error: SyntaxError) -> str:
    line = (error.text or "").strip()
    line = line if len(line) <= 200 else f"{line[:200]} ..."
    if found := _NOT_A_VALUE.search(error.msg):
        if line.startswith("include "):
            return f"{line}: the name of a file needs quotes; write include {line.removeprefix('include ')!r}"
        word = found[1][:200]
        component = f", or @{word}() if it is a component" if re.fullmatch(r"[A-Z]\w*[a-z]\w*", word) else ""
        return f"{line}: {word} is not a value; write {_WORDS.get(word.lower(), repr(word))}{component}"
    return f"{line}: {error.msg[:500]} (a binding is Name.argument = value, and a number is written out: 0.001)"


def _spelled(value: str) -> str:
    """A value of the command line in gin's own spelling."""
    if value[0] in "@%" or (value[0] in "[({" and re.search(r"[@%][A-Za-z_]", value)):
        return value
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        return repr(replaced(ast.literal_eval(value), _endless))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return repr(value)
