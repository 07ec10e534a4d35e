"""Pickles read without running them: a stack machine of our own that calls nothing but what a reader hands it.

Python's unpicklers import what a pickle names, call it, and let it fill objects with a state of its choice; restricting
the names leaves numpy's and torch's own state setters, which trust what they are given. Here a name becomes what the
reader's table says, a call reaches a `Maker` of that table or is refused, and a state goes to objects that are ours.
"""

from __future__ import annotations

import io
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from realuid.utils import budget
from realuid.utils.restorable import Restorable


class Refused(ValueError):
    """The pickle asks for something that reading data does not need; one line."""


class Maker:
    """A function that a pickle may call."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Reader:
    """Reads pickles of any protocol.

    Args:
        known: what a global name stands for: a value, or a Maker.
        other: what a name that is not in `known` stands for; raises Refused for those that it does not know either.
        persistent: what a persistent id stands for; None refuses them.
    """

    def __init__(
        self,
        known: Mapping[tuple[str, str], Any],
        other: Callable[[str, str], Any] | None = None,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.known, self.other, self.persistent = known, other, persistent

    def read(self, file: BinaryIO, size: int) -> Any:
        """The value of the pickle that begins here; the file is left behind its end.

        Args:
            file: of bytes.
            size: of the whole file, which pays for the pickle.

        Raises:
            Refused, budget.Excess: one line, if it asks for anything else than values, or for too many.
            ValueError, TypeError, IndexError, KeyError, EOFError: if it is damaged.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        left = budget.steps(size)
        for opcode, argument, _ in pickletools.genops(_Capped(file, size)):  # type: ignore[arg-type]
            left -= 1
            if left < 0:
                raise budget.Excess("it is a pickle of more steps than its size allows")
            if opcode.name in CONSTANTS:
                self._stack.append(argument)
            elif opcode.name == "STOP":
                break
            else:
                _STEPS[opcode.name](self, argument)
        value = self._pop()
        budget.whole(value, size)
        return value

    def _pop(self) -> Any:
        if not self._stack or (self._marks and len(self._stack) == self._marks[-1]):
            raise Refused("it takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise Refused("it looks at an empty stack")
        return self._stack[-1]

    def _marked(self) -> list[Any]:
        """What lies above the last mark, taken off with it."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _named(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in protocol 2
        if (module, name) in self.known:
            return self.known[module, name]
        if self.other is None:
            raise Refused(f"it refers to {module}.{name}")
        return self.other(module, name)

    def _called(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise Refused("it calls something that is no function of data")
        return maker.call(*arguments)

    def _appended(self, items: list[Any]) -> None:
        if type(self._top()) is not list:
            raise Refused("it appends to something that is no list")
        self._top().extend(items)

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self._top(), dict) or len(items) % 2:
            raise Refused("it sets items of something that is no dict")
        self._top().update(_entries(items))

    def _built(self) -> None:
        state = self._pop()
        target = self._top()
        if isinstance(target, Restorable):
            target.restore(state)
        elif not isinstance(target, dict):  # attributes of an OrderedDict, such as the versions in a state dict
            raise Refused("it gives a state to something that has none")


def _entries(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(_distinct(items[::2]), items[1::2], strict=True))


def _distinct(keys: list[Any]) -> list[Any]:
    if any(isinstance(key, int) and abs(key) >= 1 << 60 for key in keys):  # they may all have been given one hash
        raise Refused("it has keys of huge numbers")
    return keys


class _Capped:
    """A file of `size` bytes that is never asked for more: some allocate what they are asked for before they look."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._read, self.readline, self._size = file.read, file.readline, size

    def read(self, count: int) -> bytes:
        if count > self._size:
            raise Refused("it claims more bytes than there are")
        return self._read(count)


CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
"""Opcodes whose argument is the value that they push."""


def _pushed(make: Callable[[Reader], Any]) -> Callable[[Reader, Any], None]:
    return lambda reader, _: reader._stack.append(make(reader))


def _taken(reader: Reader, count: int) -> list[Any]:
    return [reader._pop() for _ in range(count)][::-1]


def _remembered(reader: Reader, argument: Any) -> None:
    reader._memo[len(reader._memo) if argument is None else int(argument)] = reader._top()


def _added(reader: Reader, _: Any) -> None:
    items = reader._marked()
    if type(reader._top()) is not set:
        raise Refused("it adds to something that is no set")
    reader._top().update(_distinct(items))


def _dropped(reader: Reader, _: Any) -> None:
    if reader._marks and len(reader._stack) == reader._marks[-1]:
        reader._marks.pop()
    else:
        reader._pop()


def _new_with_names(reader: Reader) -> Any:
    maker, arguments, names = _taken(reader, 3)
    if names:
        raise Refused("it calls something with named arguments")
    return reader._called(maker, arguments)


def _instance(reader: Reader, argument: Any) -> None:
    items = tuple(reader._marked())
    reader._stack.append(reader._called(reader._named(*argument.split(" ", 1)), items))


def _object(reader: Reader) -> Any:
    maker, *arguments = reader._marked()
    return reader._called(maker, tuple(arguments))


def _global(reader: Reader, argument: Any) -> None:
    reader._stack.append(reader._named(*argument.split(" ", 1)))


def _stack_global(reader: Reader) -> Any:
    module, name = _taken(reader, 2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise Refused("it names something by what is no text")
    return reader._named(module, name)


def _persistent(reader: Reader, key: Any) -> Any:
    if reader.persistent is None:
        raise Refused("it refers to something outside itself")
    return reader.persistent(key)


_STEPS: dict[str, Callable[[Reader, Any], None]] = {
    "PROTO": lambda reader, _: None,
    "FRAME": lambda reader, _: None,
    "MARK": lambda reader, _: reader._marks.append(len(reader._stack)),
    "POP": _dropped,
    "POP_MARK": lambda reader, _: (reader._marked(), None)[1],
    "DUP": _pushed(lambda reader: reader._top()),
    "NONE": _pushed(lambda reader: None),
    "NEWTRUE": _pushed(lambda reader: True),
    "NEWFALSE": _pushed(lambda reader: False),
    "EMPTY_LIST": _pushed(lambda reader: []),
    "EMPTY_TUPLE": _pushed(lambda reader: ()),
    "EMPTY_DICT": _pushed(lambda reader: {}),
    "EMPTY_SET": _pushed(lambda reader: set()),
    "LIST": _pushed(lambda reader: reader._marked()),
    "TUPLE": _pushed(lambda reader: tuple(reader._marked())),
    "TUPLE1": _pushed(lambda reader: tuple(_taken(reader, 1))),
    "TUPLE2": _pushed(lambda reader: tuple(_taken(reader, 2))),
    "TUPLE3": _pushed(lambda reader: tuple(_taken(reader, 3))),
    "DICT": _pushed(lambda reader: _entries(reader._marked())),
    "FROZENSET": _pushed(lambda reader: frozenset(_distinct(reader._marked()))),
    "APPEND": lambda reader, _: reader._appended([reader._pop()]),
    "APPENDS": lambda reader, _: reader._appended(reader._marked()),
    "SETITEM": lambda reader, _: reader._set(_taken(reader, 2)),
    "SETITEMS": lambda reader, _: reader._set(reader._marked()),
    "ADDITEMS": _added,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remembered),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda reader, argument: reader._stack.append(reader._memo[int(argument)])
    ),
    "GLOBAL": _global,
    "STACK_GLOBAL": _pushed(_stack_global),
    "INST": _instance,
    "OBJ": _pushed(_object),
    "REDUCE": _pushed(lambda reader: reader._called(*_taken(reader, 2))),
    "NEWOBJ": _pushed(lambda reader: reader._called(*_taken(reader, 2))),
    "NEWOBJ_EX": _pushed(_new_with_names),
    "BUILD": lambda reader, _: reader._built(),
    "PERSID": lambda reader, key: reader._stack.append(_persistent(reader, key)),
    "BINPERSID": _pushed(lambda reader: _persistent(reader, reader._pop())),
}
"""The other opcodes; those of extensions and of buffers outside the file are refused with a KeyError."""


def encoded(text: Any, codec: Any = "latin1") -> bytes:
    """`_codecs.encode`, by which old protocols write bytes."""
    if codec != "latin1" or not isinstance(text, str):
        raise Refused(f"it uses the codec {codec!r}")
    return text.encode(codec)


def _bytes(content: Any = b"", codec: Any = "latin1") -> bytes:
    if not isinstance(content, (bytes, str)):  # of a number they would be so many zeros
        raise Refused(f"it makes bytes of {type(content).__name__}")
    return encoded(content, codec) if isinstance(content, str) else content


PLAIN: dict[tuple[str, str], Any] = {
    ("builtins", "set"): Maker(lambda items=(): set(_distinct(list(items)))),
    ("builtins", "frozenset"): Maker(lambda items=(): frozenset(_distinct(list(items)))),
    ("builtins", "slice"): Maker(slice),
    ("builtins", "complex"): Maker(complex),
    ("builtins", "bytes"): Maker(_bytes),
    ("builtins", "bytearray"): Maker(_bytes),
    ("collections", "OrderedDict"): Maker(lambda items=(): OrderedDict((key, value) for key, value in items)),
    ("_codecs", "encode"): Maker(encoded),
}
"""Python's own containers and numbers."""


def read(content: bytes, known: Mapping[tuple[str, str], Any]) -> Any:
    """The value of a pickle of `known` names. Raises as `Reader.read` does."""
    return Reader(known).read(io.BytesIO(content), len(content))
