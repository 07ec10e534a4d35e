"""The catalogue of bindable components: what there is of each kind, with arguments, defaults and docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

from realuid.config.errors import ConfigError, nearest
from realuid.config.hints import described
from realuid.config.language import brief
from realuid.config.registry import REQUIRED, Kind, Parameter, kinds, register_components

WIDTH = 118
ALIKE = 8
"""Names that a message lists."""


def listing(what: str | None = None) -> str:
    """The components of one kind, of all kinds, or one component with all its arguments.

    Args:
        what: a kind (`Interpolant`, `DistillationLoss`, ...) or a component's name; None for all kinds.

    Raises:
        ConfigError: if there is neither a kind nor a component of this name; one line with the nearest.
    """
    register_components()
    groups: dict[str, list[Kind]] = {}
    for component in sorted(kinds(), key=lambda kind: kind.name):
        groups.setdefault(kind_of(component), []).append(component)
    if what is None:
        return "\n\n".join(_group(name, groups[name]) for name in sorted(groups))
    by_name = {name.lower(): name for name in groups}
    if what.lower() in by_name:
        name = by_name[what.lower()]
        return _group(name, groups[name])
    for components in groups.values():
        for component in components:
            if component.name.lower() == what.lower():
                return "\n".join(_whole(component))
    names = [*groups, *(component.name for components in groups.values() for component in components)]
    alike = [name for name in names if what.lower().removesuffix("s") in name.lower()][:ALIKE]
    remedy = nearest(what, names) or (f"; there are {', '.join(alike)}" if alike else "")
    raise ConfigError(f"list {what}: there is no such kind or component{remedy}")


def kind_of(component: Kind) -> str:
    """The kind of a component: its topmost base class in this package, or `Part` if it has none."""
    bases = [base for base in inspect.getmro(component.target)[1:] if base.__module__.startswith("realuid.")]
    return bases[-1].__name__ if bases else "Part"


def summary(component: Kind) -> str:
    """The first sentence of its docstring, without mathematics."""
    text = " ".join((inspect.getdoc(component.target) or "").split("\n\n")[0].split())
    return re.split(r"(?<!\bal)(?<!\be\.g)\.\s(?=[A-Z])", text, maxsplit=1)[0].rstrip(".:").replace("`", "")


def _group(name: str, components: list[Kind]) -> str:
    lines = [name]
    for component in components:
        arguments = ", ".join(_argument(key, known) for key, known in component.parameters.items())
        head = f"  {component.name}({arguments})"
        lines += textwrap.wrap(head, WIDTH, subsequent_indent="      ", break_long_words=False)
        lines += textwrap.wrap(summary(component), WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _argument(name: str, parameter: Parameter) -> str:
    return name if parameter.default is REQUIRED else f"{name}={brief(parameter.default, 40)}"


def _whole(component: Kind) -> Iterator[str]:
    """A component's signature, argument by argument, and its docstring."""
    yield f"{component.name}: {kind_of(component)}, {component.target.__module__}"
    yield ""
    for name, parameter in component.parameters.items():
        default = "required" if parameter.default is REQUIRED else f"default {brief(parameter.default)}"
        free = "; may change when a run is resumed" if parameter.free else ""
        yield f"  {component.name}.{name}: {described(parameter.hint)}, {default}{free}"
    yield ""
    yield inspect.getdoc(component.target) or ""
