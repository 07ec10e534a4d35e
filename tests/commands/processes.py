"""train.py as several processes that share their work, as torchrun would start them."""

import os
import socket

import torch

from realuid.commands.train import main


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _process(rank: int, size: int, port: int, dtype: torch.dtype, arguments: list[str]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)
    os._exit(main(arguments))  # the parent's pytest is not to be closed here


def train(size: int, arguments: list[str], dtype: torch.dtype = torch.float32) -> list[int]:
    """Runs train.py in `size` processes; returns their exit statuses."""
    context, port = torch.multiprocessing.get_context("fork"), free_port()
    processes = [context.Process(target=_process, args=(r, size, port, dtype, arguments)) for r in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]
