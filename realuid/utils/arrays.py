"""numpy's arrays out of files, made by ourselves from bytes and an allowed type: numpy's own state setters trust what
they are given."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from realuid.utils import archives
from realuid.utils.pickles import Maker, Refused
from realuid.utils.restorable import Restorable


class Dtype(Restorable):
    """numpy's dtype of a plain number, by its name and byte order; records, objects and texts are refused."""

    def __init__(self, name: Any, *_: Any) -> None:
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(name, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|c(8|16)", name):
            raise Refused(f"it holds an array of {name!r}, which are no plain numbers")
        self.name, self.order = name, "|" if name in ("b1", "i1", "u1") else "<"

    def restore(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise Refused("it changes a number's type into a record")
        self.order = "<" if order == "=" else order

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


class Array(Restorable):
    """An array of plain numbers, made from its bytes by ourselves."""

    def __init__(self, *_: Any) -> None:
        self.value: NDArray[Any] = np.empty(0)  # filled by its state, which follows

    def restore(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    content = content.encode("latin1") if isinstance(content, str) else content  # of Python 2
    if not isinstance(dtype, Dtype) or not isinstance(content, (bytes, bytearray)):
        raise Refused("it holds an array that is no bytes of plain numbers")
    return np.frombuffer(bytes(content), dtype.dtype).reshape(tuple(shape), order="F" if order == "F" else "C")


def _buffered(content: Any, dtype: Any, shape: Any, order: str = "C") -> Array:
    array = Array()
    array.value = _array(content, dtype, shape, order)
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (1,), "C")[0].item()


NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): Maker(Dtype),
    ("numpy", "ndarray"): Array,  # named where an array is made, and never called
    **{
        (f"numpy.{core}.{module}", name): Maker(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _buffered),
        )
    },
}
"""Arrays and numbers of numpy's."""


@dataclass(frozen=True)
class Header:
    """What an `.npy` file says of its array, whose bytes begin at `offset`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int


MAGIC = b"\x93NUMPY"
DESCRIPTION = re.compile(r"['\"]descr['\"]\s*:\s*['\"]([<>|=]?[biufcUS]\d{1,6})['\"]")
ORDER = re.compile(r"['\"]fortran_order['\"]\s*:\s*(True|False)")
SHAPE = re.compile(r"['\"]shape['\"]\s*:\s*\(((?:\s*\d{1,18}L?\s*,?){0,32})\)")


def npy_header(start: bytes, length: int) -> Header:
    """Parses the beginning of a file of `length` bytes, by ourselves: numpy evaluates it as Python's literals.

    Raises:
        ValueError: one line, if it is none of plain numbers or text, or claims more than there is.
    """
    version = start[6:7]
    if not start.startswith(MAGIC) or version not in (b"\1", b"\2", b"\3"):
        raise ValueError("it is no array")
    place = 10 if version == b"\1" else 12
    offset = place + int.from_bytes(start[8:place], "little")
    text = start[place : min(offset, HEADER)].decode("latin1")
    found = [pattern.search(text) for pattern in (DESCRIPTION, ORDER, SHAPE)]
    if not all(found):
        raise ValueError("it holds no array of plain numbers: nothing of it was run")
    descr, order, lengths = (match[1] for match in found if match)
    dtype = np.dtype(descr)
    shape = tuple(int(number) for number in re.findall(r"\d+", lengths))
    if math.prod(shape) * dtype.itemsize > length - offset:
        raise ValueError(f"it claims an array of {shape}, more than its bytes")
    return Header(dtype, shape, order == "True", offset)


HEADER = 1 << 14
"""Bytes of a header that are looked at."""


def npy(content: bytes) -> NDArray[Any]:
    """The array of an `.npy` file: plain numbers or text, read-only. Raises ValueError as `npy_header` does."""
    header = npy_header(content, len(content))
    count = math.prod(header.shape)
    values = np.frombuffer(content, header.dtype, count, header.offset) if count else np.zeros(0, header.dtype)
    return values.reshape(header.shape, order="F" if header.fortran else "C")


def npy_file(array: NDArray[Any]) -> bytes:
    """The array as an `.npy` file."""
    file = io.BytesIO()
    np.save(file, np.asarray(array, order="C"))  # not ascontiguousarray, which gives numbers a side
    return file.getvalue()


class Npz(Mapping[str, NDArray[Any]]):
    """The arrays of an `.npz` file, each read when it is asked for. Raises ValueError as `npy` does, and for bombs."""

    def __init__(self, file: BinaryIO) -> None:
        self._archive = archives.opened_zip(file)
        self._infos = {info.filename.removesuffix(".npy"): info for info in self._archive.infolist()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return npy(archives.member(self._archive, self._infos[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)
