"""`make_shards SOURCE DEST`: a data set as shards with an index."""

import argparse
import sys
from collections.abc import Sequence

from realuid.data.builtin import BUILTIN, make
from realuid.data.index import has_index
from realuid.errors import DataError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Writes SOURCE into DEST and prints what was written.

    Returns:
        0, or 2 after one line on stderr if DEST holds a data set already or cannot be written.
    """
    parser = argparse.ArgumentParser(prog="make_shards", description="Writes a data set as webdataset shards.")
    parser.add_argument(
        "source", choices=sorted(BUILTIN), metavar="SOURCE", help=f"one of: {', '.join(sorted(BUILTIN))}"
    )
    parser.add_argument("dest", metavar="DEST", help="a folder or any fsspec URL, such as s3://bucket/digits")
    parser.add_argument(
        "--shard-size", type=_positive, default=10_000, metavar="N", help="samples per shard (%(default)s)"
    )
    args = parser.parse_args(argv)
    try:
        if has_index(args.dest):
            raise DataError(f"{args.dest} already holds a data set and is left alone")
        index = make(args.source, args.dest, shard_size=args.shard_size)
    except DataError as error:
        print(f"make_shards: {error}", file=sys.stderr)
        return 2
    print(f"{args.dest}: {index.name}, {index.channels}x{index.image_size}x{index.image_size}, {index.licence}")
    for name, split in index.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        print(f"  {name}: {split.samples} samples in {len(split.shards)} shards, {size} bytes, labels {split.labels}")
    return 0


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
