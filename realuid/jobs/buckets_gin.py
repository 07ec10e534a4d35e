"""The gin text that reads the sets of aspect buckets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from realuid.data.preparation.aspects import Size
from realuid.data.preparation.buckets import folder_of
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.location import locate

__all__ = ["BUCKETS_FILE", "buckets_gin"]

BUCKETS_FILE = "buckets.gin"


def buckets_gin(dest: str, made: Mapping[Size, ShardIndex], *, encoded: bool) -> str:
    """Statements that bind the buckets as a run's data, after those of a recipe.

    Args:
        dest: where the buckets lie.
        made: the set of each, the main one first.
        encoded: whether they hold latents and embeddings, which the recipe's encoders must have made.
    """
    split = next((name for index in made.values() for name in index.splits if name == "train"), None)
    split = split or next(iter(next(iter(made.values())).splits))
    there = {size: index for size, index in made.items() if split in index.splits}
    reader = "Prefetched" if encoded else "Streaming"
    classes = len(next(iter(there.values())).classes)
    count = sum(index.splits[split].samples for index in there.values())
    lines = [
        f"# {count:,} pictures in {len(there)} aspect buckets, by make_shards --buckets. Read it after a recipe:",
        "#",
        "#     realuid train --gin RECIPE --gin THIS_FILE",
        "#",
        "# The first bucket is the main one, in whose size samples are shown and exported.",
        *(["# The recipe includes gin/base/encoded.gin."] if encoded else []),
        "",
        "Trainer.data = @Buckets()",
        "Buckets.sets = (",
        *(
            f"    @{_scope(size)}/{reader}(),  # {index.splits[split].samples:,} pictures"
            for size, index in there.items()
        ),
        ")",
    ]
    if encoded:
        lines += ["Prefetched.data = @EncodedLatents()", "Prefetched.workers = 1  # of each bucket"]
        lines += ["EncodedLatents.data = @Streaming()"]
    if classes or not encoded:
        lines += [f"Streaming.classes = {classes}"]
    if split != "train":
        lines += [f"Streaming.split = {split!r}"]
    for size, index in there.items():
        assert index.image_size is not None
        shape = (index.channels, *index.image_size)
        lines += ["", f"{_scope(size)}/Streaming.path = {f'{_named(dest)}/{folder_of(size)}'!r}"]
        lines += [f"{_scope(size)}/Streaming.shape = {shape!r}"]
    return "\n".join(lines) + "\n"


def _scope(size: Size) -> str:
    return f"bucket{folder_of(size)}"


def _named(dest: str) -> str:
    """A place as recipes name it: inside `REALUID_DATA` if it lies there, else absolute, or a URL."""
    if "://" in dest or "::" in dest:
        return dest.rstrip("/")
    place, root = Path(dest).resolve(), Path(locate(""))
    try:
        return place.relative_to(root.resolve()).as_posix()
    except ValueError:
        return place.as_posix()
