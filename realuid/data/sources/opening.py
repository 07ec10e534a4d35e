"""What lies at a path, told by its name and its content."""

from __future__ import annotations

from pathlib import Path

from realuid.data.cache import Cache
from realuid.data.index import ShardIndex, has_index
from realuid.data.layout import SOURCE
from realuid.data.listing import Listed, is_pattern, listed
from realuid.data.sources import published
from realuid.data.sources.kinds import LIMIT, Files, Shards, Source


def open_source(path: str, labels: str = "auto") -> dict[str, Source]:
    """The splits of what lies at `path`: shards, CIFAR-10's, (Fashion-)MNIST's or downsampled ImageNet's own files, or
    else a folder or zip of images, whose only split is "train".

    Raises:
        DataError: there is nothing that can be read.
    """
    if is_pattern(path) and not published.is_cifar_archive(path):
        shards = listed(path, Cache(folder=None, limit=LIMIT))
        return {"train": _resharded(shards, (), labels, grey=False)}
    if not path.lower().endswith((".zip", ".npz", ".gz")) and has_index(path):
        index = ShardIndex.read(path)
        return {
            name: _resharded(
                [Listed(path, shard) for shard in split.shards], index.classes, labels, grey=index.channels == 1
            )
            for name, split in index.splits.items()
        }
    local = Path(path)
    for reader in (published.cifar10, published.idx, published.npz):
        if local.exists() and (splits := reader(local)):
            return splits
    return {"train": Files(path, labels)}


def _resharded(shards: list[Listed], classes: tuple[str, ...], labels: str, *, grey: bool) -> Shards:
    cache = Cache(folder=None, limit=LIMIT)
    layouts = [cache.get(entry.folder, entry.shard).layout for entry in shards]
    pairs = all((layout.places[:, SOURCE, 1] >= 0).all() for layout in layouts)
    if labels == "none":
        classes = ()
    elif not classes and all((layout.labels >= 0).all() for layout in layouts):
        classes = tuple(str(i) for i in range(1 + max(int(layout.labels.max()) for layout in layouts)))
    return Shards(shards, classes, pairs=pairs, grey=grey)
