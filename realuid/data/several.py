"""Several sets that a run reads as one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from realuid.conditions import Field
from realuid.data.dataset import Dataset, Scaling
from realuid.utils.errors import DataError

__all__ = ["Several"]


class Several(Dataset):
    """What is the same of several sets, however their samples are chosen.

    Args:
        sets: of one size each. A subclass makes sure that they are alike in what it gives out.

    Raises:
        ValueError: one of them is itself several of different sizes.
    """

    def __init__(self, sets: Sequence[Dataset]) -> None:
        if any(len(one.shapes) > 1 for one in sets):
            own = type(self).__name__
            raise ValueError(f"{own}.sets are of one size each: bind @Buckets() around them, not inside")
        self.sets, main = tuple(sets), sets[0]
        self.shape, self.classes, self.has_sources = main.shape, main.classes, main.has_sources
        self.encoder = main.encoder
        self.tolerate = sum(one.tolerate for one in sets)

    @property
    def conditions(self) -> tuple[Field, ...]:
        return self.sets[0].conditions

    @property
    def latent_scaling(self) -> Scaling | None:
        """What all of the sets are scaled by. Raises DataError if they disagree."""
        self._check_units()
        return self.sets[0].latent_scaling

    def made_by(self) -> Mapping[str, str]:
        """What all of the sets were made by."""
        first, *others = (one.made_by() for one in self.sets)
        return {part: made for part, made in first.items() if all(other.get(part) == made for other in others)}

    def stated_checksum(self) -> str | None:
        parts = [one.stated_checksum() for one in self.sets]
        return None if None in parts else hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    def missing(self) -> str | None:
        line = next((line for one in self.sets if (line := one.missing())), None)
        if line is None:
            self._check_units()
        return line

    def damaged(self) -> dict[str, str]:
        return {place: reason for one in self.sets for place, reason in one.damaged().items()}

    def wait_s(self) -> float:
        return sum(one.wait_s() for one in self.sets)

    def _check_units(self) -> None:
        scalings = [one.latent_scaling for one in self.sets]
        first, *others = (_spread(scaling, self.shape[0]) for scaling in scalings)
        if any(other != first for other in others):
            told = "; ".join("pixels" if s is None else f"latents of mean {s[0]}, deviation {s[1]}" for s in scalings)
            raise DataError(f"{type(self).__name__}.sets give images in different units: {told}")


def _spread(scaling: Scaling | None, channels: int) -> list[tuple[float, ...]]:
    """Mean and deviation with a number for each channel."""
    return [tuple(numbers) * (channels // len(numbers)) for numbers in scaling or ()]
