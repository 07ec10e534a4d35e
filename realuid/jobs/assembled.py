"""What a user's configuration describes, built only as far as a machine can hold it."""

from __future__ import annotations

import math
import os
from typing import Any

from realuid import config as configuration
from realuid.config import Config, ConfigError
from realuid.networks.no_init_weights import no_weights
from realuid.training.trainer import Trainer
from realuid.utils import budget
from realuid.utils.building import Assembling, machine_memory

__all__ = ["assembled", "outlined"]

HELD = 16
"""Bytes of an entry of a batch at least: x0, x1, z and x_t in float32."""


def assembled(config: Config) -> Any:
    """The root of the configuration, its networks with weights.

    Raises:
        ConfigError: if the assembly is wrong, or larger than this machine's memory.
    """
    with Assembling(machine_memory()):
        made = configuration.build(config)
    if isinstance(made, Trainer):
        _check_batch(made)
    return made


def outlined(config: Config) -> Any:
    """The same with networks that have shapes and no weights, of any size that a machine somewhere can hold.

    Raises:
        ConfigError: see above.
    """
    with no_weights(), Assembling(None):
        return configuration.build(config)


def _check_batch(trainer: Trainer) -> None:
    """Raises ConfigError if what a process is given at once is more than this machine's memory, its networks aside."""
    room, processes = machine_memory(), int(os.environ.get("WORLD_SIZE", "1"))
    entries = HELD * math.prod(trainer.data.shape)
    share = -(-trainer.batch // processes)
    remedies = {"Trainer.batch or Trainer.micro_batch": min(share, trainer.micro_batch or share)}
    if trainer.evaluator is not None:
        remedies["Evaluator.batch"] = min(trainer.evaluator.batch, trainer.evaluator.count)
    for binding, count in remedies.items():
        if count * entries > room:
            size = budget.written(count * entries)
            raise ConfigError(
                f"{count:,} images of shape {tuple(trainer.data.shape)} at once take {size}, more than the "
                f"{budget.written(room)} of this machine's memory: bind a smaller {binding}"
            )
