"""Nested states, taken apart into their tensors and all the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

REST = "rest.pt"
"""The file of a sharded checkpoint that holds all that is no tensor, and where tensors belong in it."""
TENSOR = "\0tensor"


def split(state: Any, place: str = "") -> tuple[dict[str, Tensor], Any]:
    """The tensors of a nested state by their place, and the state with their places instead."""
    if isinstance(state, Tensor):
        return {place: state.detach()}, {TENSOR: place}
    tensors: dict[str, Tensor] = {}
    if isinstance(state, dict):
        rest: Any = {}
        for key, value in state.items():
            inside, rest[key] = split(value, f"{place}/{key}")
            tensors |= inside
        return tensors, rest
    if isinstance(state, list | tuple):
        pairs = [split(value, f"{place}/{number}") for number, value in enumerate(state)]
        return {k: v for inside, _ in pairs for k, v in inside.items()}, type(state)(rest for _, rest in pairs)
    return tensors, state


def joined(rest: Any, tensors: dict[str, Tensor]) -> Any:
    """The state that `split` took apart."""
    if isinstance(rest, dict):
        if rest.keys() == {TENSOR}:
            return tensors[rest[TENSOR]]
        return {key: joined(value, tensors) for key, value in rest.items()}
    if isinstance(rest, list | tuple):
        return type(rest)(joined(value, tensors) for value in rest)
    return rest


def places(rest: Any) -> Iterator[str]:
    """Where the tensors of a state belong."""
    if isinstance(rest, dict):
        if rest.keys() == {TENSOR}:
            yield rest[TENSOR]
            return
        rest = list(rest.values())
    if isinstance(rest, list | tuple):
        for value in rest:
            yield from places(value)
