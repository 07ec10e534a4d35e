"""Whether a bound value is what an annotation asks for."""

from __future__ import annotations

import collections.abc as abc
import inspect
import types
import typing
from typing import Annotated, Any, Literal, TypeVar, Union

import typeguard

from realuid.config.language import Reference
from realuid.config.registry import find, is_protocol

_SEQUENCES = (list, tuple, abc.Sequence, abc.Collection, abc.Iterable)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


class Misfit(Exception):
    """The value is not what the annotation asks for."""


def fitted(value: Any, hint: Any) -> Any:
    """`value` as `hint` asks for it: an int becomes a float, a sequence a tuple unless `hint` is a list.

    A bool is no number here, and a float no int. A reference fits if what it builds would. Raises Misfit.
    """
    if type(value) is hint:  # numbers and texts, of which matrices have thousands
        return value
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return value
    if kind is Annotated:
        return fitted(value, arguments[0])
    if kind in (Union, types.UnionType):
        return _fitted_to_one(value, arguments)
    if isinstance(value, Reference):
        return _fitted_reference(value, kind)
    if kind in _SEQUENCES:
        return _fitted_sequence(value, kind, arguments)
    if kind in _MAPPINGS and isinstance(value, dict):
        key_hint, item_hint = arguments or (Any, Any)
        return {fitted(key, key_hint): fitted(item, item_hint) for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    return _checked(value, hint)


def _fitted_to_one(value: Any, hints: tuple[Any, ...]) -> Any:
    fits = []
    for hint in hints:
        try:
            fits.append(fitted(value, hint))
        except Misfit:
            continue
    if not fits:
        raise Misfit
    return next((fit for fit in fits if type(fit) is type(value)), fits[0])


def _fitted_reference(reference: Reference, kind: Any) -> Reference:
    produced = find(reference.name).produces
    produced = typing.get_origin(produced) or produced
    try:
        fits = not inspect.isclass(produced) or issubclass(produced, kind)
    except TypeError:  # a protocol that cannot be checked, a Literal, ...
        fits = inspect.isclass(kind) and is_protocol(kind)
    if not fits:
        raise Misfit
    return reference


def _fitted_sequence(value: Any, kind: Any, hints: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple)):
        raise Misfit
    if kind is tuple and hints and hints[-1] is not Ellipsis:
        if len(hints) != len(value):
            raise Misfit
        items = [fitted(item, hint) for item, hint in zip(value, hints, strict=True)]
    else:
        items = [fitted(item, hints[0] if hints else Any) for item in value]
    return items if kind is list else tuple(items)


def _checked(value: Any, hint: Any) -> Any:
    if isinstance(value, bool) and hint in (int, float, complex):
        raise Misfit
    try:
        return typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        raise Misfit from None


def described(hint: Any) -> str:
    """An annotation in words a user reads."""
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if kind is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if kind in (Union, types.UnionType):
        return " or ".join(map(described, arguments))
    if kind is Annotated:
        return described(arguments[0])
    if kind is not None:
        return f"{described(kind)}[{', '.join(map(described, arguments))}]"
    return hint.__name__ if inspect.isclass(hint) else str(hint)
