"""Building what a configuration assembles. Gin makes the calls; its global state is lent to one build at a time."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from realuid.config._gin import gin
from realuid.config.assembly import Component, children
from realuid.config.configuration import Config
from realuid.config.errors import ConfigError
from realuid.config.language import Binding, Reference, in_scope, replaced
from realuid.config.outlines import plan
from realuid.config.registry import find
from realuid.config.table import Table, macros, settled, spread

MANY = 4
"""If an error names no binding, list the component's own up to this many; beyond that, only the one that refers to
it."""


def build(config: Config) -> Any:
    """The instance of the root class that `config` assembles; nothing of gin outlives the call.

    A ValueError, TypeError or FileNotFoundError of a constructor becomes a ConfigError that names the component's place
    and its bindings. Any other exception comes out as it was raised.
    """
    with _lent(_gin_bindings(config)):
        try:
            return gin.get_configurable(find(config.root).selector)()
        except Exception as error:
            cause = _unwrapped(error)
            if not isinstance(cause, (ValueError, TypeError, FileNotFoundError)):
                raise cause from cause.__cause__
            raise ConfigError(_located(cause, _trail(error), config)) from cause


def _gin_bindings(config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    """The bindings in gin's own form. Macros are replaced by their values, fitted to the type of each argument."""

    def referring(leaf: Any) -> Any:
        if not isinstance(leaf, Reference):
            return leaf
        return gin.config.ConfigurableReference(in_scope(leaf.scope, find(leaf.name).selector), True)

    table = config.table
    bindings: dict[tuple[str, str], dict[str, Any]] = {}
    for binding in table.values():
        if binding.component:
            place = binding.scope, find(binding.component).selector
            bindings.setdefault(place, {})[binding.argument] = replaced(settled(binding, table), referring)
    return bindings


@contextmanager
def _lent(bindings: dict[tuple[str, str], dict[str, Any]]) -> Iterator[None]:
    """Gin holds `bindings` and nothing else. What it held before comes back: a constructor may build components."""
    tables = (gin.config._CONFIG, gin.config._OPERATIVE_CONFIG)
    before = [dict(table) for table in tables]
    try:
        for table in tables:
            table.clear()
        gin.config._CONFIG.update(bindings)
        with gin.config_scope(None):
            yield
    finally:
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)


def _unwrapped(error: BaseException) -> BaseException:
    """The exception as it was raised: gin hands on a stand-in of the same type, with a longer message."""
    while inspect.isfunction(made := type(error).__init__) and made.__module__ == "gin.utils" and error.__context__:
        error = error.__context__
    return error


def _trail(error: BaseException) -> list[tuple[str, str]]:
    """The (scope, selector) of the components that were being built, outermost first, from gin's own frames."""
    frames = {id(frame): frame for frame, _ in traceback.walk_tb(error.__traceback__)}
    calls = [frame.f_locals for frame in frames.values() if frame.f_code.co_name == "gin_wrapper"]
    return [(call["scope_str"], call["current_selector"]) for call in calls]


def _located(cause: BaseException, trail: list[tuple[str, str]], config: Config) -> str:
    """A constructor's complaint, after the path to its component and before the component's bindings."""
    component, way, bindings = plan(config), "", []
    for scope, selector in trail[1:]:
        for label, child, binding in _built_for(component):
            if (child.scope, child.kind.selector) == (scope, selector):
                way, component, bindings = f"{way}{component.name}.{label} > ", child, [binding]
                break
    own = [argument.binding for argument in component.arguments.values() if argument.binding]
    told = [binding for binding in own if _speaks_of(str(cause), binding, config.table)]
    bindings = told or (own if 0 < len(own) <= MANY else bindings)
    parts = [part for binding in bindings for part in (binding, *macros(binding, config.table))]
    origins = ", ".join(f"{part.brief} ({part.origin})" for part in parts)
    return f"{way}{component.name}: {cause}" + (f" [{origins}]" if origins else "")


def _speaks_of(complaint: str, binding: Binding, table: Table) -> bool:
    """Whether a complaint names the binding's argument, or a component that is bound to it."""
    bound = [leaf.name.rpartition(".")[2] for leaf in spread(binding.value, table) if isinstance(leaf, Reference)]
    return any(re.search(rf"\b{re.escape(name)}\b", complaint) for name in (binding.argument, *bound))


def _built_for(component: Component) -> Iterator[tuple[str, Component, Binding]]:
    for name, argument in component.arguments.items():
        if argument.binding:
            for label, child in children(argument.value, name):
                yield label, child, argument.binding
