"""Processes that were started again meet each other, and not those that are gone."""

import os
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from realuid.training.rendezvous import meet
from realuid.training.world import World

pytestmark = pytest.mark.xdist_group("processes")


def _join(rank: int, late: int | None, port: int, told) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    if rank == late:
        time.sleep(1.0)
    world = World.join("cpu", 20.0)
    told.put((rank, world.agree(rank)))
    told.close()
    told.join_thread()
    os._exit(0)  # without a farewell, as if killed: the store is left as it is


@pytest.mark.parametrize("late", [0, 1])
def test_a_restart_does_not_meet_those_that_are_gone(late):
    """As under torchrun, whose store is one for all restarts; the process that comes first finds the old addresses."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, multi_tenant=True)
    context = torch.multiprocessing.get_context("fork")
    for generation in range(3):
        told = context.Queue()
        late_now = late if generation else None  # the first time both find an empty store
        processes = [context.Process(target=_join, args=(rank, late_now, store.port, told)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert sorted(told.get(timeout=5) for _ in processes) == [(0, 1), (1, 1)]


def test_a_process_that_does_not_come_is_named(monkeypatch):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, multi_tenant=True)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    for name, value in {"RANK": 0, "WORLD_SIZE": 3, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(dist.DistStoreError, match=r"processes \[1, 2\] did not come within 0.2 s"):
        meet(timedelta(seconds=0.2))
