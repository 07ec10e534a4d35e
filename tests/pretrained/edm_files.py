"""Writes pickles in the format of NVIDIA's `torch_utils.persistence`: random weights, hostile source code."""

import pickle
import sys
import types
from contextlib import contextmanager

import torch

SOURCE = "open('CODE_RAN', 'w').write('the source in the file was executed')"


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the file's own constructor was called")


class EasyDict(dict):
    pass


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
EasyDict.__module__ = "dnnlib.util"


@contextmanager
def their_modules():
    """Modules by these names exist while a file is written, as pickle wants it."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    before = {name: sys.modules.get(name) for name in names}
    modules = {name: types.ModuleType(name) for name in names}
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    modules["dnnlib.util"].EasyDict = EasyDict
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.__setitem__(name, module)


class Persistent:
    """An object as `persistent_class` pickles it."""

    def __init__(self, name, **state):
        self.name, self.state = name, state

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.name, "state": self.state}
        return _reconstruct_persistent_obj, (meta,)


def module(name, state, **attributes):
    """A torch module of these weights, with modules nested by the dots of their names."""
    parameters, buffers, children = {}, {}, {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if rest:
            children.setdefault(first, {})[rest] = value
        elif key in ("freqs", "phases", "resample_filter"):
            buffers[key] = value
        else:
            parameters[key] = torch.nn.Parameter(value)
    modules = {key: None if part is None else module("Part", part) for key, part in children.items()}
    if "enc" in modules:  # torch's own container, pickled by reference
        modules["enc"] = container(children["enc"])
    return Persistent(name, _parameters=parameters, _buffers=buffers, _modules=modules, training=False, **attributes)


def container(state):
    box = torch.nn.ModuleDict()
    names = dict.fromkeys(key.partition(".")[0] for key in state)
    for name in names:
        part = {key.partition(".")[2]: value for key, value in state.items() if key.partition(".")[0] == name}
        box.__dict__["_modules"][name] = module("Part", part)
    return box


def write(path, *, wrapper, inner, kwargs, state, extra=None, protocol=4, **attributes):
    """A snapshot file.

    Args:
        path: where to.
        wrapper: class of the preconditioned network, with its attributes.
        inner: attribute and class of the raw network in it.
        kwargs: arguments the raw network was built with.
        state: weights of the raw network.
        extra: more entries of the file.
        protocol: of pickle.
    """
    attribute, name = inner
    network = module(name, state, _init_args=(), _init_kwargs=EasyDict(kwargs))
    whole = Persistent(wrapper, _parameters={}, _buffers={}, _modules={attribute: network}, **attributes)
    with their_modules(), open(path, "wb") as file:
        pickle.dump({"ema": whole, "dataset_kwargs": EasyDict(path="x"), **(extra or {})}, file, protocol)
