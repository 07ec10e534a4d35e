"""`make_shards SOURCE DEST`: a data set as shards with an index."""

import argparse
import sys
from collections.abc import Sequence

from realuid.data.builtin import BUILTIN, make
from realuid.data.index import ShardIndex, has_index
from realuid.data.prepare import FILTERS, FORMATS, Preparation
from realuid.data.sources import Files, SideBySide, Source, TwoFolders, open_source
from realuid.data.writer import convert
from realuid.errors import DataError

__all__ = ["main"]

DESCRIPTION = f"""Writes a data set as webdataset shards with an index.

SOURCE is a built-in set ({", ".join(sorted(BUILTIN))}); a folder or zip of images or .npy latents, flat, in class
folders or with EDM's dataset.json; the folder of CIFAR-10's, (Fashion-)MNIST's or downsampled ImageNet's own files, or
CIFAR-10's archive; or shards, to be packed anew. The same source and options give the same bytes. A conversion that was
stopped goes on when it is asked for again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes SOURCE into DEST and prints what was written.

    Returns:
        0, or 2 after one line on stderr if SOURCE can't be read, or DEST holds something already or can't be written.
    """
    args = _parser().parse_args(argv)
    try:
        index = _made(args)
    except (DataError, OSError) as error:
        print(f"make_shards: {error}", file=sys.stderr)
        return 2
    licence = f", {index.licence}" if index.licence else ""
    print(f"{args.dest}: {index.name}, {index.channels}x{index.image_size}x{index.image_size} {index.dtype}{licence}")
    for name, split in index.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        labels = f", labels {split.labels}" if split.labels is not None and len(split.labels) <= 20 else ""
        print(f"  {name}: {split.samples} samples in {len(split.shards)} shards, {size} bytes{labels}")
    return 0


def _made(args: argparse.Namespace) -> ShardIndex:
    if has_index(args.dest):
        raise DataError(f"{args.dest} already holds a data set and is left alone")
    if args.source in BUILTIN:
        return make(args.source, args.dest, shard_size=args.shard_size)
    sources = _sources(args)
    any_source = next(iter(sources.values()))
    return convert(
        sources,
        args.dest,
        preparation=Preparation(
            resolution=args.resolution,
            crop=args.crop,
            filter=args.filter,
            format=args.format,
            quality=args.quality,
            grey=args.grey or any_source.grey,
        ),
        name=args.name or args.dest.rstrip("/").rpartition("/")[2],
        source=args.source if args.pairs is None else f"{args.source}, paired with {args.pairs}",
        licence=args.licence,
        shard_size=args.shard_size,
        workers=args.workers,
        shuffle=args.shuffle if args.shuffle is not None else None if any_source.mixed else 0,
        progress=not args.quiet,
    )


def _sources(args: argparse.Namespace) -> dict[str, Source]:
    if args.pairs or args.side_by_side:
        files = Files(args.source, args.labels)
        pairs = TwoFolders(files, Files(args.pairs, "none")) if args.pairs else SideBySide(files, args.side_by_side)
        return {args.split or "train": pairs}
    sources = open_source(args.source, args.labels)
    if args.split is None:
        return sources
    if args.split in sources:
        return {args.split: sources[args.split]}
    if list(sources) != ["train"]:
        raise DataError(f"{args.source} has the splits {', '.join(sources)}, not '{args.split}'")
    return {args.split: sources["train"]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make_shards", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="see above")
    add("dest", metavar="DEST", help="a folder or any fsspec URL, such as s3://bucket/imagenet64")
    add("--resolution", type=_positive, metavar="N", help="side in pixels (default: as the images are)")
    add(
        "--crop",
        type=_crop,
        default="none",
        help="none; centre, the largest square in the middle; a number, the middle square of that side; or adm, the "
        "box-and-bicubic preparation of ImageNet for ADM and EDM (%(default)s)",
    )
    add("--filter", choices=tuple(FILTERS), default="lanczos", help="of resizing (%(default)s)")
    add(
        "--format",
        choices=FORMATS,
        default="keep",
        help="of the images; keep leaves files that need no change as they are and writes png otherwise (%(default)s)",
    )
    add("--quality", type=_positive, default=95, metavar="Q", help="of jpg, 1 to 95 (%(default)s)")
    add("--grey", action="store_true", help="one channel")
    add(
        "--labels",
        default="auto",
        metavar="auto|none|FILE",
        help="auto takes dataset.json or class folders; a file is JSON {name: label} or CSV name,label (%(default)s)",
    )
    pairs = parser.add_mutually_exclusive_group()
    pairs.add_argument("--pairs", metavar="FOLDER", help="source images with the names of those in SOURCE")
    pairs.add_argument("--side-by-side", choices=("left", "right"), help="the half that holds the source image")
    add("--split", metavar="NAME", help="the split to write (default: all, or train)")
    add("--shard-size", type=_positive, default=10_000, metavar="N", help="samples per shard (%(default)s)")
    add("--shuffle", type=int, metavar="SEED", help="of the order of storage (0; shards keep theirs)")
    add("--workers", type=_count, default=0, metavar="N", help="processes; 0 works in this one (%(default)s)")
    add("--name", help="of the data set (default: DEST's last part)")
    add("--licence", default="", metavar="TEXT", help="of the data, for the index")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _crop(text: str) -> str:
    if text not in ("none", "centre", "adm") and not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not none, centre, adm or a number of pixels")
    return text
