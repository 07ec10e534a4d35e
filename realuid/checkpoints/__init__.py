"""Checkpoints: files and folders of weights anywhere fsspec reaches, whole or absent, read without running anything."""

from realuid.checkpoints.files import save
from realuid.checkpoints.reading import exists, is_sharded, load
from realuid.checkpoints.store import CheckpointStore, step_of
from realuid.checkpoints.weights import checksum, load_network, network_weights

__all__ = [
    "CheckpointStore",
    "checksum",
    "exists",
    "is_sharded",
    "load",
    "load_network",
    "network_weights",
    "save",
    "step_of",
]
