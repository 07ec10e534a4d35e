"""What shards are made from."""

from realuid.data.sources.arrays import Arrays
from realuid.data.sources.base import Damaged, Raw, Source
from realuid.data.sources.opening import open_pairs, open_source

__all__ = ["Arrays", "Damaged", "Raw", "Source", "open_pairs", "open_source"]
