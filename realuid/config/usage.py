"""Which bindings have an effect. Gin accepts a misspelt scope or an unused macro silently; here they are found.

What is bound for the root in a scope, `teacher/Trainer.images = ...`, makes a second assembly of the same statements:
the root built in that scope, a run of its own. The one scope that means this is `teacher`.
"""

from __future__ import annotations

from realuid.config.errors import ConfigError, nearest
from realuid.config.language import COMMAND_LINE, Binding, Macro, Reference
from realuid.config.table import Table, bound, enclosing, spread

ROOT_SCOPES = ("teacher",)
"""Scopes in which the root may be bound: each is a run that is made before, and used by, the run in no scope."""


def check_root_scopes(table: Table, root: str) -> None:
    """Refuses bindings of the root in a scope that means nothing.

    Raises:
        ConfigError: with the nearest scope that does.
    """
    for binding in table.values():
        if binding.component == root and binding.scope not in ("", *ROOT_SCOPES):
            known = f"; a run of its own is bound in {' or '.join(f'{scope}/{root}' for scope in ROOT_SCOPES)}"
            raise ConfigError(
                f"{binding.place}: no {root} is built in scope {binding.scope!r}"
                f"{nearest(binding.scope, ROOT_SCOPES, known)}"
            )


def root_scopes(table: Table, root: str) -> list[str]:
    """The scopes in which there is an assembly of its own, beside the one in no scope."""
    return sorted({binding.scope for binding in table.values() if binding.component == root and binding.scope})


def used(table: Table, root: str) -> set[str]:
    """The keys of the bindings and macros that have an effect on `root`. Wrong statements raise nothing here."""
    places = _places(table, root)
    winners = {binding.key for scope, name in places for binding in bound(table, scope, name).values()}
    # In a file, a binding that others override everywhere may be a default. On the command line it is a mistake.
    keys = {
        binding.key
        for binding in table.values()
        if binding.key in winners
        or (
            binding.origin != COMMAND_LINE
            and any(name == binding.component and binding.scope in enclosing(scope) for scope, name in places)
        )
    }
    macros = {leaf.name for key in keys for leaf in spread(table[key].value, table) if isinstance(leaf, Macro)}
    return keys | macros


def _places(table: Table, root: str) -> set[tuple[str, str]]:
    """The (scope, component) of everything that is built."""
    found: set[tuple[str, str]] = set()
    waiting = [(scope, root) for scope in ("", *root_scopes(table, root))]
    while waiting:
        place = scope, name = waiting.pop()
        if place not in found:
            found.add(place)
            for binding in bound(table, scope, name).values():
                references = (leaf for leaf in spread(binding.value, table) if isinstance(leaf, Reference))
                waiting += [(reference.scope or scope, reference.name) for reference in references]
    return found


def unused(binding: Binding, table: Table, root: str) -> ConfigError:
    """An error that says why nothing uses `binding`, and what was probably meant."""
    places = _places(table, root)
    scopes = sorted({scope for scope, name in places if name == binding.component and scope})
    names = {name for _, name in places}
    if not binding.component:
        macros = used(table, root) & {other.key for other in table.values() if not other.component}
        reason = f"no binding uses the macro %{binding.key}{nearest(binding.key, macros)}"
    elif winners := {
        winner.key
        for scope, name in places
        if name == binding.component and binding.scope in enclosing(scope)
        for argument, winner in bound(table, scope, name).items()
        if argument == binding.argument
    }:
        reason = (
            f"it has no effect: {' and '.join(sorted(winners))} {'overrides' if len(winners) == 1 else 'override'} it"
        )
    elif binding.component in names:
        known = f"; it is built in {', '.join(scopes) or 'no scope'}"
        reason = f"no {binding.component} is built in scope {binding.scope!r}{nearest(binding.scope, scopes, known)}"
    else:
        suggestion = nearest(binding.component, names)
        reason = f"nothing uses it, for no @{binding.component}() is part of {root}{suggestion}"
    return ConfigError(f"{binding.place}: {reason}")
