"""Memory on the CPU, held between operations."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

HELD = 256 << 20
"""Bytes of freed memory that a process may hold."""
LARGE = 32 << 20
"""Bytes from which on a block is given back at once; glibc comes to this by itself as long as nothing else is set."""


def hold_freed_memory() -> None:
    """Keeps glibc from giving freed memory back to the kernel after every few operations.

    Activations are freed and asked for again many times a second, and the kernel clears the pages each time. Without
    glibc nothing changes; what is computed never does.
    """
    with suppress(AttributeError, OSError, TypeError):  # macOS and musl have no mallopt, Windows no library None
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, HELD)
