"""The components that a configuration assembles, as a tree and as text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from realuid.config.assembly import Component, assemble, outline
from realuid.config.configuration import Config
from realuid.config.usage import used


def tree(config: Config) -> str:
    """The components that `config` assembles, indented, with every argument; builds nothing."""
    return "\n".join(outline(plan(config)))


def part(config: Config, *path: str) -> list[str]:
    """The outline of one component of the assembly, without scopes and without marks of defaults: the same component in
    two assemblies has the same outline.

    Args:
        config: the configuration.
        path: argument names from the root down, for instance `"method", "model"`.
    """
    component = plan(config)
    for name in path:
        component = component.arguments[name].value
    return [re.sub(r"@(?:\w+/)+", "@", line.removesuffix("  # default")) for line in outline(component)]


def plan(config: Config) -> Component:
    """The tree of components that building `config` follows."""
    return assemble(config.table, config.root, config.name)


def value(config: Config, *path: str) -> Any:
    """The value that the assembly gives to an argument: `value(config, "method", "teacher", "checkpoint")`.

    None where nothing of that name is built. What is a component there is a `Component`.
    """
    found: Any = plan(config)
    for name in path:
        if not isinstance(found, Component) or name not in found.arguments:
            return None
        found = found.arguments[name].value
    return found


def alone(config: Config, *path: str) -> Config | None:
    """One component of the assembly as a configuration that stands alone; None if there is none, or in a scope.

    Args:
        config: the configuration.
        path: argument names from the root down.
    """
    component = value(config, *path)
    if not isinstance(component, Component) or component.scope:
        return None
    table, root = config.table, component.kind.name
    return replace(config, root=root, statements=tuple(table[key] for key in table if key in used(table, root)))
