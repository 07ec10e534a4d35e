"""Which code a configuration may name that came with a checkpoint.

A gin file can import modules, and some arguments name a class or function to call (`names_code` of their component). In
a file of the user's own that is what gin is for. In the text inside a checkpoint it would be a program from elsewhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate
from typing import Any

from realuid.config.errors import ConfigError, Wrong
from realuid.config.language import Binding, Import, Macro, leaves
from realuid.config.registry import find
from realuid.config.table import Table, spread

TEXT = 1 << 16
"""Characters of a stored configuration; a run's own has some thousands."""
STATEMENTS = 500
NAME = 300
DEPTH = 50
"""Brackets within each other, and macros."""
LEAVES = 20_000
"""Values that a macro may become."""
LONG = re.compile(r"\d{18,}")
LONG_NUMBERS = 100
"""Most numbers with so many digits: keys of a dict may be chosen among them that all have one hash."""


def check_text(name: str, text: str) -> None:
    """Raises ConfigError if parsing a stored configuration would take long."""
    opened = accumulate((char in "([{") - (char in ")]}") for char in text)
    if len(text) > TEXT or max(opened, default=0) > DEPTH or len(LONG.findall(text)) > LONG_NUMBERS:
        raise ConfigError(
            f"{name}: its configuration is too long ({len(text):,} characters) or nested too deep to be of this project"
        )


def check_statements(name: str, statements: Collection[Import | Binding]) -> None:
    """Raises ConfigError if there are too many, or their macros name each other many times over."""
    if len(statements) > STATEMENTS:
        raise ConfigError(
            f"{name}: its configuration has {len(statements)} statements, and no run of this project has as many"
        )
    table = {statement.key: statement for statement in statements if isinstance(statement, Binding)}
    if any(len(key) > NAME for key in table):
        raise ConfigError(f"{name}: its configuration has a name of more than {NAME} characters")
    counts: dict[str, int] = {}

    def count(value: Any, within: tuple[str, ...]) -> int:
        if len(within) > DEPTH:
            raise ConfigError(f"{name}: its configuration has macros that name {DEPTH} others in a row")
        total = 0
        for leaf in leaves(value):
            total += 1
            if isinstance(leaf, Macro) and leaf.name in table and leaf.name not in within:
                if leaf.name not in counts:
                    counts[leaf.name] = count(table[leaf.name].value, (*within, leaf.name))
                total += counts[leaf.name]
            if total > LEAVES:
                raise ConfigError(f"{name}: its configuration has macros that become more than {LEAVES:,} values")
        return total

    for statement in table.values():
        count(statement.value, ())


def named(statements: Iterable[Import | Binding]) -> set[str]:
    """Modules that the statements import, and every text that they bind. Their author allows code among these."""
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, Import):
            found.add(statement.module)
        else:
            found |= {leaf for leaf in spread(statement.value, {}) if isinstance(leaf, str)}
    return found


class CodeRefused(ConfigError):
    """A configuration from elsewhere names code that is not allowed: `names`."""

    def __init__(self, name: str, names: list[str]):
        super().__init__(
            f"{name}: its configuration asks for code from outside this package, {', '.join(names)}, and nothing of it "
            f"was run; if you trust the file, add --allow-import {' '.join(map(shlex.quote, names))}"
        )
        self.names = names


def refuse_code(name: str, imports: Collection[str], table: Table, allowed: Collection[str]) -> None:
    """Raises CodeRefused if a configuration from elsewhere names code that is not allowed, with all of it in one line.

    Args:
        name: of the configuration.
        imports: modules that it imports.
        table: its bindings. Those of components that are not known (yet) are left out.
        allowed: modules, and `package.module:Name`s.
    """
    if refused := sorted({*imports, *_code(table)} - set(allowed)):
        raise CodeRefused(name, refused)


def _code(table: Table) -> Iterator[str]:
    """The values of arguments that name code."""
    for binding in table.values():
        try:
            parameter = find(binding.component).parameters.get(binding.argument) if binding.component else None
        except Wrong:
            continue
        if parameter is not None and parameter.code:
            yield from (leaf for leaf in spread(binding.value, table) if isinstance(leaf, str))
