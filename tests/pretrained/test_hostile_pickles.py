"""Pickles that forge numpy's state, or grow: refused in one line by the reader of EDM's files and by CIFAR-10's."""

import os
import pickle
import pickletools
import resource
import time

import numpy as np
import pytest

from realuid.commands.make_shards import main as make_shards
from realuid.pretrained import read
from realuid.utils.errors import CheckpointError

scalar, buffer = np._core.multiarray.scalar, np._core.numeric._frombuffer
RECORD = (4, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)


class Call:
    """Pickles as a call of `function` with `arguments`, and a state after it."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def array(dtype, content=b"\x41" * 8, shape=(1,)):
    return Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content))


def memo_bomb():
    """Lists of two references to the one before: 2^60 of them."""
    value = []
    for _ in range(60):
        value = [value, value]
    return value


def deep():
    """Opcodes of 100,000 lists within each other."""
    return b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."


def circle():
    value = []
    value.append({"again": value})
    return value


def same_hash():
    """Dict keys of one hash: each is compared with all before."""
    return {number * (2**61 - 1): None for number in range(1500)}


VALUES = {
    "a record with an object": lambda: array(Call(np.dtype, "V8", False, True, state=RECORD)),
    "an object by its name": lambda: array(Call(np.dtype, "O8", False, True)),
    "objects by state": lambda: array(Call(np.dtype, "u1", 0, 1, state=(3, "|", ("O", (8,)), None, None, 8, 1, 0))),
    "a scalar that is an object": lambda: Call(scalar, Call(np.dtype, "O", False, True), b"\x41" * 8),
    "a scalar of a record": lambda: Call(scalar, Call(np.dtype, "V8", False, True, state=RECORD), b"\x41" * 8),
    "a buffer of objects": lambda: Call(buffer, b"\x41" * 8, Call(np.dtype, "O", False, True), (1,), "C"),
    "a longer array than its bytes": lambda: array(Call(np.dtype, "u1", False, True), b"\x41", (1 << 40,)),
    "a type of a type": lambda: array(Call(np.dtype, Call(np.dtype, "u1", False, True), False, True)),
    "a command": lambda: Call(os.system, "touch EXECUTED"),
    "a command by another way": lambda: Call(getattr, Call(__import__, "os"), "system"),
    "code": lambda: Call(eval, "open('EXECUTED', 'w')"),
    "a function made of code": lambda: Call(exec, Call(compile, "open('EXECUTED', 'w')", "x", "exec")),
    "a state for a class": lambda: Call(np.dtype, "u1", False, True, state={"__class__": 1}),
    "references to references": memo_bomb,
    "itself": circle,
    "keys of one hash": same_hash,
    "bytes of a number": lambda: Call(bytearray, 1 << 40),
}
STREAMS = {
    "lists in lists": deep,
    "a claimed length": lambda: b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    "a claimed array of bytes": lambda: b"\x80\x05\x96" + (1 << 36).to_bytes(8, "little") + b"x.",
    "a far place in the memory": lambda: b"\x80\x02]r\xff\xff\xff\x7f.",
    "a million steps": lambda: b"\x80\x02" + b"N0" * 500_000 + b"N.",
    "a name without an end": lambda: b"\x80\x02cos\n" + b"s" * 100_000,
    "a call of a text": lambda: b"\x80\x02X\x01\x00\x00\x00x)R.",
    "an attribute of a function": lambda: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x04nameK\x01s\x86b.",
}


def edm(value: bytes) -> bytes:
    """A pickle like EDM's whose `img_resolution` is this pickled value."""
    head = b"\x80\x04ctorch_utils.persistence\n_reconstruct_persistent_obj\n(}("
    text = lambda word: b"X" + len(word).to_bytes(4, "little") + word.encode()  # noqa: E731
    network = head + text("class_name") + text("SongUNet") + text("state") + b"}(" + text("_init_kwargs") + b"}("
    network += text("img_resolution") + inside(value) + b"uuutR"
    whole = head + text("class_name") + text("EDMPrecond") + text("state") + b"}(" + text("_modules") + b"}("
    whole += text("model") + network[2:] + b"uuutR"
    return b"\x80\x04}" + text("ema") + whole[2:] + b"s."


def inside(content: bytes) -> bytes:
    """The opcodes of a pickle without its beginning and its end."""
    return content[2:-1] if content[:1] == b"\x80" else content[:-1]


CASES = {**{name: lambda make=make: pickle.dumps(make(), protocol=2) for name, make in VALUES.items()}, **STREAMS}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_an_edm_file(case, tmp_path):
    (tmp_path / "hostile.pkl").write_bytes(edm(CASES[case]()))
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as refusal:
        read("hostile.pkl", "edm")
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_cifar_10(case, tmp_path, capsys):
    (tmp_path / "cifar").mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (tmp_path / "cifar" / name).write_bytes(CASES[case]())
    start = time.process_time()
    assert make_shards(["cifar", "out"]) == 2
    assert time.process_time() - start < 2
    assert capsys.readouterr().err.strip().count("\n") == 0
    assert not (tmp_path / "EXECUTED").exists()
    assert not (tmp_path / "out").exists()


def test_the_envelope_is_one_that_is_read():
    """What refuses the cases above is their value, not what surrounds it."""
    assert list(pickletools.genops(edm(pickle.dumps(8, protocol=2))))
    with open("right.pkl", "wb") as file:
        file.write(edm(pickle.dumps(8, protocol=2)))
    with pytest.raises(CheckpointError, match=r"is no snapshot of EDM: KeyError 'sigma_data'|channels"):
        read("right.pkl", "edm")
