"""The processes of a run find each other, also after torchrun started them again."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

_POLL_S = 0.05


def meet(timeout: timedelta) -> tuple[dist.Store, int, int]:
    """Waits for all processes that torchrun started together.

    torchrun's store outlives the processes: after a restart it still holds the addresses of those that are gone, and
    whoever comes first would connect to them. So each process asks by a name of its own, and process 0 answers with a
    new name for what they all keep in the store.

    Args:
        timeout: how long to wait for the others.

    Returns:
        A store that only these processes write to, this process's rank, and how many they are.

    Raises:
        torch.distributed.DistStoreError: if another process does not come in time.
    """
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    name = _tell(store, size, timeout) if rank == 0 else _ask(store, rank)
    return dist.PrefixStore(name, store), rank, size


def _ask(store: dist.Store, rank: int) -> str:
    asked = uuid4().hex
    store.set(f"asked/{rank}", asked)
    name = store.get(f"told/{asked}").decode()  # waits for it
    store.set(f"{name}/joined/{rank}", "")
    return name


def _tell(store: dist.Store, size: int, timeout: timedelta) -> str:
    name, deadline = uuid4().hex, time.monotonic() + timeout.total_seconds()
    missing = set(range(1, size))
    while missing:
        for rank in missing:
            if store.check([f"asked/{rank}"]):  # perhaps by a process that is gone: then another question follows
                store.set(f"told/{store.get(f'asked/{rank}').decode()}", name)
        missing = {rank for rank in missing if not store.check([f"{name}/joined/{rank}"])}
        if missing and time.monotonic() > deadline:
            raise dist.DistStoreError(f"processes {sorted(missing)} did not come within {timeout.total_seconds():g} s")
        time.sleep(_POLL_S)
    return name
