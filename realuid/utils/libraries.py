"""Classes of installed libraries that a file or a table names."""

from __future__ import annotations

from types import ModuleType
from typing import Any

__all__ = ["class_in"]


def class_in(library: ModuleType, name: Any, *kinds: type) -> Any:
    """The class that a library exports by a name; None if it has no such class.

    Args:
        library: such as diffusers, which imports its parts when they are asked for.
        name: of the class, perhaps from a file, and then anything.
        kinds: one of which the class must be; any class if there are none.
    """
    found = getattr(library, name, None) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, kinds or (object,)) else None
