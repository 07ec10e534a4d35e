"""Processes that share their work, as torchrun would start them; forked, so that none imports everything anew."""

import os
import socket
from collections.abc import Callable

import torch


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _one(rank: int, size: int, port: int, work: Callable[..., object], arguments: tuple) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    work(*arguments)


def run(size: int, work: Callable[..., object], *arguments) -> list[int | None]:
    """`work(*arguments)` in each of `size` processes; returns their exit statuses, None of one that hangs."""
    context, port = torch.multiprocessing.get_context("fork"), free_port()
    processes = [context.Process(target=_one, args=(rank, size, port, work, arguments)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()  # nothing to one that has ended
    return statuses
