"""What autograd keeps for the backward pass, counted, with recomputation of blocks or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from realuid.networks.blocks import blocks
from realuid.training.flops import FlopCounter


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Bytes that autograd keeps for the backward pass, parameters not counted, shared storages counted once.

    Attributes:
        kept: bytes of what is kept until the backward pass.
        again: floating-point operations of the forward passes that are repeated.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.kept, self.again = 0, 0
        self._largest = 0
        self._known = {p.untyped_storage()._cdata for net in networks for p in net.parameters()}
        self._inside: dict[int, int] | None = None
        self._alive: list[Tensor] = []  # keeps storages alive, so that none is counted under another's address
        super().__init__(self._count, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes at once: what is kept, and what the largest block keeps while it is repeated."""
        return self.kept + self._largest

    @contextmanager
    def recomputing(self, networks: Sequence[nn.Module], counter: FlopCounter) -> Iterator[None]:
        """Inside, blocks keep their inputs alone, as with `Compute.recompute`.

        Args:
            networks: whose blocks.
            counter: of the operations, entered.
        """
        with ExitStack() as hooks:
            for block in dict.fromkeys(chain.from_iterable(map(blocks, networks))):
                begun: list[int] = []
                enter = block.register_forward_pre_hook(partial(self._enter, begun, counter))
                leave = block.register_forward_hook(partial(self._leave, begun, counter), with_kwargs=True)
                hooks.callback(enter.remove)
                hooks.callback(leave.remove)
            yield

    def _enter(self, begun: list[int], counter: FlopCounter, block: nn.Module, inputs: Any) -> None:
        self._inside = {}
        begun.append(counter.total)

    def _leave(
        self, begun: list[int], counter: FlopCounter, block: nn.Module, inputs: Any, named: Any, outputs: Any
    ) -> None:
        assert self._inside is not None
        inside, self._inside = self._inside, None
        cost = counter.total - begun.pop()
        if any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(outputs)):
            self.again += cost
            for leaf in tree_leaves((inputs, named)):
                if isinstance(leaf, Tensor):
                    self._count(leaf)
            own = sum(size for storage, size in inside.items() if storage not in self._known)
            self._largest = max(self._largest, own)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._alive.append(tensor)
            if self._inside is not None:
                self._inside[storage._cdata] = storage.nbytes()
            else:
                self._known.add(storage._cdata)
                self.kept += storage.nbytes()
        return tensor
