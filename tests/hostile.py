"""Files that mean harm, made quickly: bombs that are packed for real, pickles that ask for more than data; and a
process of its own for whoever reads them."""

import collections
import io
import os
import pickle
import resource
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from realuid.config import ConfigError
from realuid.utils.errors import CheckpointError, DataError, RunError

BOMB = 6 << 30
"""Bytes that bombs unpack to."""
PIECE = 16 << 20
MEMORY = 1 << 30
SECONDS = 2.0


def deflated(size: int, head: bytes = b"") -> bytes:
    """A raw deflate stream of `head` and then zeros, `size` bytes in all; one piece is packed and repeated."""
    first, more = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.compressobj(6, zlib.DEFLATED, -15)
    begin = first.compress(head) + first.flush(zlib.Z_FULL_FLUSH)
    piece = more.compress(bytes(PIECE)) + more.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(6, zlib.DEFLATED, -15)
    return begin + piece * ((size - len(head)) // PIECE) + end.compress(bytes((size - len(head)) % PIECE)) + end.flush()


def gzipped(size: int, head: bytes = b"") -> bytes:
    """A gzip file of `head` and then zeros. Its checksum is wrong, which shows only at its end."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated(size, head) + struct.pack("<II", 0, size & 0xFFFFFFFF)


class Packed(NamedTuple):
    """A member of a zip: its bytes there, and how many it says that they become."""

    content: bytes
    size: int
    method: int = 8


def stored(content: bytes) -> Packed:
    return Packed(content, len(content), 0)


def zipped(members: Mapping[str, Packed]) -> bytes:
    """A zip; checksums are those of stored members alone."""
    body, listing = b"", b""
    for name, (content, size, method) in members.items():
        crc = 0 if method else zlib.crc32(content)
        wide = struct.pack("<HHQQ", 1, 16, size, len(content))
        fields = struct.pack("<HHHHHIIIHH", 45, 0, method, 0, 0x21, crc, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(wide))
        central = struct.pack("<IH", 0x02014B50, 45) + fields + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        listing += central + name.encode() + wide
        body += struct.pack("<I", 0x04034B50) + fields + name.encode() + wide + content
    count = len(members)
    return body + listing + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(listing), len(body), 0)


def npy(shape: tuple[int, ...], dtype: str = "|u1", version: bytes = b"\1\0") -> bytes:
    """The header of an array."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


class Call:
    """Pickles as a call of `function` with `arguments`, and a state after it."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


class Persistent(NamedTuple):
    """Pickles as a reference to something outside, as torch's storages do."""

    key: tuple


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.key if isinstance(value, Persistent) else None


def pickled(value, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def numbers(count: int, kind=torch.FloatStorage) -> Persistent:
    """A storage that says it has so many numbers."""
    return Persistent(("storage", kind, "0", "cpu", count))


def tensor(shape, strides, count: int = 4, offset: int = 0) -> Call:
    """A tensor that lies like this in a storage that says it has `count` numbers."""
    return Call(
        torch._utils._rebuild_tensor_v2, numbers(count), offset, shape, strides, False, collections.OrderedDict()
    )


def torch_file(content: bytes, held: bytes = bytes(16)) -> bytes:
    """A file of torch.save around a pickle."""
    members = {"data.pkl": content, "byteorder": b"little", "data/0": held, "version": b"3\n"}
    return zipped({f"archive/{name}": stored(part) for name, part in members.items()})


def old_torch_file(content: bytes, held: bytes = bytes(16), count: int = 4) -> bytes:
    """The form before torch 1.6."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    parts = [*map(pickled, head), content, pickled(["0"]), struct.pack("<q", count), held]
    return b"".join(parts)


def doubled(times: int) -> list:
    """Lists of two references to the one before."""
    value: list = []
    for _ in range(times):
        value = [value, value]
    return value


def circle() -> list:
    value: list = []
    value.append({"again": value})
    return value


def nested(text: str, depth: int, end: str) -> str:
    return text * depth + end * depth


# What a file of weights may hold instead of a tensor, pickled.
WEIGHTS: dict[str, Callable[[], object]] = {
    "a command": lambda: Call(os.system, "touch EXECUTED"),
    "code": lambda: Call(exec, "open('EXECUTED', 'w')"),
    "an attribute": lambda: Call(getattr, Call(__import__, "os"), "system"),
    "torch's own loader": lambda: Call(torch.load, "other.pt"),
    "a file to write": lambda: Call(torch.save, [1], "EXECUTED"),
    "references to references": lambda: doubled(60),
    "itself": circle,
    "keys of one hash": lambda: {number * (2**61 - 1): None for number in range(3000)},
    "bytes of a number": lambda: Call(bytearray, 1 << 36),
    "a tensor of a number": lambda: Call(torch.FloatTensor, 1 << 34),
    "a stride of zero": lambda: tensor((1 << 40,), (0,)),
    "one number under many names": lambda: [tensor((1 << 25,), (0,)) for _ in range(100)],
    "a tensor beyond its numbers": lambda: tensor((1 << 34,), (1,)),
    "more numbers than there are": lambda: tensor((1 << 34,), (1,), count=1 << 34),
    "a negative offset": lambda: tensor((4,), (1,), offset=-4),
    "a sparse tensor": lambda: Call(
        torch._utils._rebuild_sparse_tensor, torch.sparse_coo, (tensor((1, 1), (1, 1)), tensor((1,), (1,)), (1 << 40,))
    ),
    "a tensor without numbers": lambda: Call(
        torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (1 << 40,), (1,), False
    ),
    "a forged numpy type": lambda: Call(
        np._core.multiarray._reconstruct,
        np.ndarray,
        (0,),
        b"b",
        state=(
            1,
            (1,),
            Call(np.dtype, "V8", False, True, state=(4, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)),
            False,
            b"\x41" * 8,
        ),
    ),
}
# The same, in opcodes that Python's own pickler does not write.
STREAMS: dict[str, bytes] = {
    "lists in lists": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "a claimed length": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a claimed array of bytes": b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b"x.",
    "a far place in the memory": b"\x80\x02]r\xff\xff\xff\x7fcos\nsystem\n.",
    "a million steps": b"\x80\x02" + b"N0" * 500_000 + b"N.",
    "a state for a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x04nameK\x01s\x86b.",
}


def refusal(read: Callable[[], object], folder: Path) -> str:
    """The line in which reading is refused, in a process of its own with a gigabyte more and two seconds.

    Raises:
        AssertionError: if it is read, refused in another way, takes more, or runs what the file holds.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        said = _attempt(read, folder)
        os.write(writing, said.encode(errors="backslashreplace")[-4000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the process died: {status}"
    assert said.startswith("refused: "), said
    assert not list(folder.rglob("EXECUTED")), "what the file holds was run"
    return said.removeprefix("refused: ")


def _attempt(read: Callable[[], object], folder: Path) -> str:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        try:
            read()
            said = "it was read"
        except (CheckpointError, DataError, RunError, ConfigError) as error:
            said = f"refused: {error}" if "\n" not in str(error) and len(str(error)) < 2000 else f"too long: {error}"
        taken = time.process_time() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if taken > SECONDS or grown > MEMORY:
            return f"it took {taken:.1f} s and {grown / 1e6:.0f} MB, then: {said}"
        return said
    except BaseException:
        return traceback.format_exc()
    finally:
        sys.stdout.flush()


def many_layers() -> torch.nn.Module:
    """A network that a slip of the pen has made endless."""
    return torch.nn.ParameterList(torch.empty(2) for _ in range(10**9))
