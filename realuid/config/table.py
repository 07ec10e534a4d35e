"""Single bindings: whether their names exist, what value they give, and which of them hold in a scope."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

from realuid.config.errors import Wrong, blaming, nearest
from realuid.config.hints import Misfit, described, fitted
from realuid.config.language import Binding, Macro, Reference, brief, leaves, replaced
from realuid.config.registry import Parameter, find, kinds
from realuid.config.renames import argument as argument_now
from realuid.config.renames import component as component_now
from realuid.config.renames import dropped
from realuid.config.renames import value as value_now

Table = Mapping[str, Binding]
"""The bindings of a configuration by their keys."""


class Named(Protocol):
    """A component's name and the names of its arguments."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> Collection[str]: ...


def canonical(binding: Binding, find: Callable[[str], Named] = find) -> Binding | None:
    """`binding` with every component under its short name, and names of version 0.1 as those of today.

    None for an argument of 0.1 that is not needed any more.

    Args:
        binding: as it was written.
        find: gives the component of a name.

    Raises ConfigError for an unknown or ambiguous component, an unknown argument, or a reference without brackets.
    """

    def renamed(leaf: Any) -> Any:
        if not isinstance(leaf, Reference):
            return leaf
        short = Reference(leaf.scope, find(component_now(leaf.name)).name)
        if not leaf.called:
            raise Wrong(f"{leaf!r} is not built, and components are handed over built; write {short!r}")
        return short

    with blaming(binding.place):
        value = replaced(binding.value, renamed)
        if not binding.component:
            return Binding(binding.scope, "", binding.argument, value, binding.origin)
        kind = find(component_now(binding.component))
        if dropped(kind.name, binding.argument):
            return None
        argument = argument_now(kind.name, binding.argument)
        if argument not in kind.parameters:
            known = f"; it has {', '.join(kind.parameters) or 'none'}"
            raise Wrong(f"{kind.name} has no argument {argument!r}{nearest(argument, kind.parameters, known)}")
        value = replaced(value, lambda leaf: value_now(kind.name, argument, leaf))
        return Binding(binding.scope, kind.name, argument, value, binding.origin)


def settled(binding: Binding, table: Table) -> Any:
    """The value that `binding` gives its argument: macros replaced, and of the annotated type.

    Raises ConfigError for an undefined macro, macros in a circle, and a value of another type.
    """
    with blaming(binding.place):
        hint = find(binding.component).parameters[binding.argument].hint
        value = _without_macros(binding.value, table)
        try:
            return fitted(value, hint)
        except Misfit:
            given = "".join(f" ({macro.brief} in {macro.origin})" for macro in macros(binding, table))
            raise Wrong(f"{described(hint)} expected, not {brief(value)}{given}{_remedy(value, hint)}") from None


def spread(value: Any, table: Table, seen: tuple[str, ...] = ()) -> Iterator[Any]:
    """The leaves of `value`, those behind its macros among them."""
    for leaf in leaves(value):
        yield leaf
        if isinstance(leaf, Macro) and leaf.name in table and leaf.name not in seen:
            yield from spread(table[leaf.name].value, table, (*seen, leaf.name))


def macros(binding: Binding, table: Table) -> list[Binding]:
    """The macros in the value of `binding`, and those in theirs."""
    return [table[leaf.name] for leaf in spread(binding.value, table) if isinstance(leaf, Macro) and leaf.name in table]


def _without_macros(value: Any, table: Table, within: tuple[str, ...] = ()) -> Any:
    def resolved(leaf: Any) -> Any:
        if not isinstance(leaf, Macro):
            return leaf
        if leaf.name in within:
            raise Wrong(f"macros refer to each other in a circle: {' > '.join((*within, leaf.name))}")
        macro = table.get(leaf.name)
        if macro is None or macro.component:
            known = [binding.key for binding in table.values() if not binding.component]
            raise Wrong(f"there is no macro {leaf.name!r}{nearest(leaf.name, known)}")
        return _without_macros(macro.value, table, (*within, leaf.name))

    return replaced(value, resolved)


def _remedy(value: Any, hint: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    for other in (str(value), (value,)) if number else ((value,),):
        if _fits(other, hint):
            return f"; write {other!r}"
    if isinstance(value, str):  # the name of a component
        meant = [Reference("", kind.name) for kind in kinds() if kind.name == value.removesuffix("()")]
        return next((f"; write {one!r}" for one in meant if _fits(one, hint)), "")
    if not isinstance(value, Reference):
        return ""
    fitting = [Reference("", kind.name) for kind in kinds() if _fits(Reference("", kind.selector), hint)]
    return f"; one of {', '.join(map(repr, fitting))} would do" if fitting else ""


def _fits(value: Any, hint: Any) -> bool:
    try:
        fitted(value, hint)
    except Misfit:
        return False
    return True


def default(parameter: Parameter) -> Any:
    """The default of an argument, in the form that an equal binding would have."""
    try:
        return fitted(parameter.default, parameter.hint)
    except Misfit:
        return parameter.default


def enclosing(scope: str) -> list[str]:
    """The scopes whose bindings hold in `scope`, from the root inwards."""
    parts = scope.split("/") if scope else []
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]


def bound(table: Table, scope: str, name: str) -> dict[str, Binding]:
    """The bindings that a component built in `scope` receives, by argument; inner scopes win."""
    scopes = enclosing(scope)
    own = [binding for binding in table.values() if binding.component == name and binding.scope in scopes]
    return {binding.argument: binding for binding in sorted(own, key=lambda binding: scopes.index(binding.scope))}
