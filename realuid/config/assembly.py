"""The tree of components that a configuration assembles. Nothing is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from realuid.config.errors import Wrong, blaming
from realuid.config.language import Binding, Reference, brief, in_scope, replaced
from realuid.config.registry import REQUIRED, Kind, find
from realuid.config.table import Table, bound, settled


@dataclass(frozen=True)
class Argument:
    """What a component receives: a value, with components for references; `binding` is None for a default."""

    value: Any
    binding: Binding | None


@dataclass(frozen=True)
class Component:
    """A component of the tree: its kind, the scope that it is built in, and its arguments in the signature's order."""

    kind: Kind
    scope: str
    arguments: Mapping[str, Argument]

    @property
    def name(self) -> str:
        return in_scope(self.scope, self.kind.name)


def assemble(table: Table, root: str, place: str, scope: str = "") -> Component:
    """The tree of components below `root`, built in `scope`; errors about `root` itself begin with `place`.

    Raises ConfigError for a required argument without a value and for components that refer to each other in a circle.
    """
    return _component(table, Reference(scope, root), "", place, ())


def _component(
    table: Table, reference: Reference, scope: str, place: str, above: tuple[tuple[str, str], ...]
) -> Component:
    with blaming(place):
        kind = find(reference.name)
        scope = reference.scope or scope
        path = (*above, (scope, kind.name))
        if path[-1] in above:
            circle = " > ".join(in_scope(*step) for step in path[above.index(path[-1]) :])
            raise Wrong(f"components refer to each other in a circle: {circle}")
        bindings = bound(table, scope, kind.name)
        required = [name for name, known in kind.parameters.items() if known.default is REQUIRED]
        if missing := [in_scope(scope, f"{kind.name}.{name}") for name in required if name not in bindings]:
            raise Wrong(f"{kind.name} needs a value for {', '.join(missing)}")

    def argument(name: str, default: Any) -> Argument:
        if name not in bindings:
            return Argument(default, None)
        binding = bindings[name]

        def placed(leaf: Any) -> Any:
            is_reference = isinstance(leaf, Reference)
            return _component(table, leaf, scope, binding.place, path) if is_reference else leaf

        return Argument(replaced(settled(binding, table), placed), binding)

    return Component(kind, scope, {name: argument(name, known.default) for name, known in kind.parameters.items()})


def children(value: Any, label: str) -> Iterator[tuple[str, Component]]:
    """The components in an argument's value, each with its label: `loss`, `targets[0]`, `nets['a']`."""
    if isinstance(value, Component):
        yield label, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from children(item, f"{label}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from children(item, f"{label}[{key!r}]")


def outline(component: Component, label: str = "", depth: int = 0) -> Iterator[str]:
    """The lines of the tree below `component`."""
    indent = "    " * (depth + 1)
    yield f"{'    ' * depth}{label}@{component.name}()"
    for name, argument in component.arguments.items():
        below = list(children(argument.value, name))
        if not below:
            yield f"{indent}{name} = {brief(argument.value)}{'' if argument.binding else '  # default'}"
        for path, child in below:
            yield from outline(child, f"{path} = ", depth + 1)
