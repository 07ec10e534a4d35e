"""How much a file may cost, measured by its own size: the one rule by which every loader refuses bombs.

A few kilobytes can claim to be gigabytes: compressed zeros, a list of a thousand references to one, a view that repeats
a number, a network of a million blocks. Honest files stay below a fixed multiple of their size. Whoever unpacks,
unpickles, decodes or builds what a file describes asks here first, with what it is about to spend.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import IO, Any, Protocol, runtime_checkable

from realuid.utils.restorable import Restorable

FREE = 128 << 20
"""Bytes that any file may become."""
RATIO = 100
"""Bytes that a byte of a file may become beyond that. Deflate packs zeros 1,030 to one, silhouettes about 80 to one."""
STEPS = 300_000
"""Steps (opcodes, statements, objects) that any file may ask for."""
BYTES_A_STEP = 32
"""Bytes of a file that pay for one more step. A tensor in a checkpoint takes about 60 of them, and a kilobyte."""
DEPTH = 500
"""Containers within each other."""
HEADER = 4 << 20
"""Bytes of a safetensors file that name its tensors: about a hundred for each."""
TEXT = 64 << 20
"""Bytes of JSON, which become some twenty times as many in memory."""


class Excess(ValueError):
    """A file asks for more than its size allows; one line."""


def allowance(size: int) -> int:
    """Bytes that a file of `size` bytes may become in memory or on disk."""
    return max(FREE, RATIO * size)


def length(file: IO[bytes]) -> int:
    """Bytes of a file, which is left where it stood."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    return end


def spend(amount: int, size: int, what: str) -> None:
    """Raises Excess if `amount` bytes are more than a file of `size` bytes may become; `what` it is that becomes so
    large."""
    if amount > allowance(size):
        raise Excess(f"{what} would take {written(amount)} from a file of {written(size)}: it is not unpacked")


def check_header(start: bytes) -> None:
    """Raises Excess if a safetensors file that starts like this names more tensors than any model has."""
    if (claimed := int.from_bytes(start[:8], "little")) > HEADER:
        raise Excess(f"its header claims {written(claimed)}, more than {written(HEADER)}")


def steps(size: int) -> int:
    """Steps that reading a file of `size` bytes may take."""
    return max(STEPS, size // BYTES_A_STEP)


def written(amount: int) -> str:
    """Bytes as a message shows them: `5.8 MB`."""
    number, units = float(amount), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.1f} {units[0]}" if units[0] != "bytes" else f"{amount} bytes"


def whole(value: Any, size: int) -> None:
    """Raises Excess if `value`, read from a file of `size` bytes, is more than it seems: containers that hold each
    other many times over, too deep or in a circle, or the same numbers under many names."""
    most = steps(size)
    totals: dict[int, tuple[int, int]] = {}
    path: set[int] = set()
    stack: list[tuple[Any, list[Any] | None]] = [(value, None)]
    while stack:
        here, inside = stack.pop()
        if inside is not None:  # whose parts have been looked at
            path.discard(id(here))
            counts = [totals.get(id(part)) or (1, _bytes(part)) for part in inside]
            totals[id(here)] = 1 + sum(count for count, _ in counts), _bytes(here) + sum(held for _, held in counts)
            if totals[id(here)][0] > most:
                raise Excess("its parts hold each other so often that they cannot be walked through")
        elif id(here) in path:
            raise Excess("it contains itself")
        elif id(here) not in totals and (inside := _parts(here)):
            path.add(id(here))
            if len(path) > DEPTH:
                raise Excess(f"it is nested deeper than {DEPTH}")
            stack.append((here, inside))
            stack += ((part, None) for part in inside)
    spend(totals.get(id(value), (1, _bytes(value)))[1], size, "what it holds")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    return list(vars(value).values()) if isinstance(value, Restorable) else []


@runtime_checkable
class HasBytes(Protocol):
    """An array, or what stands for a tensor."""

    nbytes: int


def _bytes(value: Any) -> int:
    """Of a leaf: a text, bytes, an array, or what stands for a tensor."""
    if isinstance(value, (str, bytes)):
        return len(value)
    return value.nbytes if isinstance(value, HasBytes) and isinstance(value.nbytes, int) else 0


def parsed(text: str | bytes, what: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text from a file.

    Args:
        text: to be read.
        what: the text is called in messages.
        pairs: makes each object of its names and values; None for a dict, in which the last of equal names wins.

    Raises:
        ValueError: if it is not JSON, too long, or nested too deep; the message begins with `what`.
    """
    if len(text) > TEXT:
        raise Excess(f"{what} is a text of {written(len(text))}, more than {written(TEXT)}")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise Excess(f"{what} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
