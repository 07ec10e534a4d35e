"""train.py as several processes that share their work."""

import os

import torch

from realuid.commands.train import main
from tests import ranks


def _train(dtype: torch.dtype, arguments: list[str]) -> None:
    torch.set_default_dtype(dtype)
    os._exit(main(arguments))  # the parent's pytest is not to be closed here


def train(size: int, arguments: list[str], dtype: torch.dtype = torch.float32) -> list[int | None]:
    """Runs train.py in `size` processes; returns their exit statuses."""
    return ranks.run(size, _train, dtype, arguments)
