"""The blocks of a network: the parts that are compiled, recomputed and sharded one by one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def blocks(network: nn.Module) -> list[nn.Module]:
    """The elements of a network's lists and dictionaries of modules, in order; lists that are modules of their own (a
    U-Net's stages) count as one block. Works for networks of other projects, too. The lists of a layer's adapters
    are no blocks. Empty where there are none."""
    return list(_found(network))


def _found(module: nn.Module) -> Iterator[nn.Module]:
    if "base_layer" in module._modules:  # peft's layer around another
        return
    for child in module.children():
        if type(child) in (nn.ModuleList, nn.ModuleDict):
            yield from child.children()
        elif isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _found(child)
