"""Fields: what a data set says that it gives, and what a network says that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from realuid.utils.torch_types import TORCH_TYPES

__all__ = ["LABEL", "Field", "class_label", "classes_of", "unmet"]

LABEL = "label"
"""Name of the field that holds class labels."""


@dataclass(frozen=True)
class Field:
    """One named tensor of a condition, `[B, *shape]`.

    Args:
        name: of the field, such as `label`, `text`, `mask`, `pooled`, `image`.
        shape: of one sample's tensor; () for a number. None is any length: networks say so of tokens, data never.
        dtype: name of torch's type, such as `int64`, `float32`, `bfloat16`, `bool`.
        classes: of a class label: its values are 0 to classes - 1. 0 for every other field.

    Raises:
        ValueError: if torch has no such type, or a side or `classes` is negative.
    """

    name: str
    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    classes: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in TORCH_TYPES:
            raise ValueError(f"torch has no type {self.dtype!r}")
        if self.classes < 0 or any(side is not None and side < 0 for side in self.shape):
            raise ValueError(f"the field {self.name!r} has a negative size: {self.shape}, {self.classes} classes")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a field whose lengths are all known, as those of data are."""
        return tuple(side for side in self.shape if side is not None)

    @property
    def torch_dtype(self) -> torch.dtype:
        return TORCH_TYPES[self.dtype]

    def __str__(self) -> str:
        """As messages show it: `label (10 classes)`, `text [16, 256] float32`."""
        if self.classes:
            return f"{self.name} ({self.classes} classes)"
        shape = f" [{', '.join('any' if side is None else str(side) for side in self.shape)}]" if self.shape else ""
        return f"{self.name}{shape} {self.dtype}"


def class_label(classes: int) -> tuple[Field, ...]:
    """The fields of a set, or of a network, that knows nothing but class labels; none if `classes` is 0."""
    return (Field(LABEL, dtype="int64", classes=classes),) if classes else ()


def classes_of(fields: Iterable[Field]) -> int:
    """The number of classes that `fields` state; 0 if there is no class label among them."""
    return next((field.classes for field in fields if field.name == LABEL), 0)


def unmet(needed: Iterable[Field], given: Iterable[Field]) -> str | None:
    """What keeps `given` fields from serving a network that needs `needed`, in a few words; None if nothing does.

    Floating-point types may differ, since networks cast what they read. Fields that are not needed do not matter.
    """
    there = {field.name: field for field in given}
    for field in needed:
        found = there.get(field.name)
        if found is None:
            return f"needs {field}, which is not given" + (f" ({', '.join(map(str, there.values()))} is)" * bool(there))
        floats = found.torch_dtype.is_floating_point and field.torch_dtype.is_floating_point
        same = found.classes == field.classes and _matches(found.shape, field.shape)
        if not same or not (floats or found.dtype == field.dtype):
            return f"needs {field}, but {found} is given"
    return None


def _matches(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(side in (None, other) for other, side in zip(shape, wanted, strict=True))
