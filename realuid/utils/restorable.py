"""What a pickle may give a state to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Restorable(ABC):
    """An object whose state a pickle may give, after it was made."""

    @abstractmethod
    def restore(self, state: Any) -> None: ...
