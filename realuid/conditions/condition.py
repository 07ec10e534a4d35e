"""The condition of a batch: named tensors with one row a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from realuid.conditions.fields import LABEL

__all__ = ["Condition", "labelled"]


class Condition(Mapping[str, Tensor]):
    """What the samples of a batch are conditioned on: named tensors, each `[B, ...]`. Immutable; may be empty.

    For instance `{"label": [B] int64}`, or `{"text": [B, L, D], "mask": [B, L], "pooled": [B, P]}`.

    Args:
        fields: the tensors by name.

    Raises:
        ValueError: if they are not equally long.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Tensor] | None = None) -> None:
        self._fields = dict(fields or {})
        rows = [tensor.shape[0] for tensor in self._fields.values()]  # not len(), which fixes it in an exported program
        if any(count != rows[0] for count in rows):
            sizes = dict(zip(self._fields, rows, strict=True))
            raise ValueError(f"the fields of a condition must have one row a sample, got {sizes} rows")

    def __getitem__(self, name: str) -> Tensor:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        """Number of fields, not of samples."""
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Condition({', '.join(f'{name} {list(tensor.shape)}' for name, tensor in self._fields.items())})"

    @property
    def samples(self) -> int | None:
        """Number of samples; None if there are no fields."""
        return next((tensor.shape[0] for tensor in self._fields.values()), None)

    def map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """Every tensor changed in the same way."""
        return Condition({name: change(tensor) for name, tensor in self._fields.items()})

    def repeated(self, start: int, count: int) -> Condition:
        """`count` samples from number `start` on, again from the first one where they end."""
        if self.samples is None:
            return self
        return self.take(torch.arange(start, start + count) % self.samples)

    def take(self, rows: Tensor | slice) -> Condition:
        """The samples of these rows: numbers `[n]`, a mask `[B]`, or a slice."""
        return self.map(lambda tensor: tensor[rows])

    def only(self, names: Iterable[str]) -> Condition:
        """Those of the fields that are among `names`."""
        wanted = set(names)
        return Condition({name: tensor for name, tensor in self._fields.items() if name in wanted})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Condition:
        """On another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def where(self, mask: Tensor, other: Condition) -> Condition:
        """These samples where `mask` `[B]` is true, those of `other`, which has the same fields, elsewhere."""

        def chosen(one: Tensor, two: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *(1,) * (one.ndim - 1)), one, two)

        return Condition({name: chosen(tensor, other[name]) for name, tensor in self._fields.items()})

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """The samples of several conditions, one after the other.

        Raises:
            ValueError: if they have different fields.
        """
        first = parts[0]
        if any(part.keys() != first.keys() for part in parts):
            raise ValueError(f"conditions of different fields cannot be joined: {', '.join(map(repr, parts))}")
        return Condition({name: torch.cat([part[name] for part in parts]) for name in first})


def labelled(labels: Tensor) -> Condition:
    """The condition of class labels `[B]`, int64."""
    return Condition({LABEL: labels})
