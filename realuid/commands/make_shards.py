"""`make_shards SOURCE DEST`: a data set as shards with an index."""

import argparse
import re
from collections.abc import Sequence

from realuid.commands.console import Parser, guarded

__all__ = ["main"]

BUILTIN = ("digits", "digits-text")
FILTERS = ("lanczos", "bicubic", "bilinear", "hamming", "box")
FORMATS = ("keep", "png", "jpg", "webp", "npy")
"""The names in `realuid.data.builtin.sets` and `realuid.data.preparation.prepare`, which take a while to import."""
LARGEST = 16_384
"""Pixels of a side that all formats can hold."""
DESCRIPTION = f"""Writes a data set as webdataset shards with an index.

SOURCE is a built-in set ({", ".join(BUILTIN)}); a folder or zip of images or .npy latents, flat, in class
folders, in folders called train, val and test, with EDM's dataset.json or Hugging Face's metadata.jsonl; parquet files
of images; the folder of CIFAR-10's, (Fashion-)MNIST's or downsampled ImageNet's own files, or CIFAR-10's archive;
shards, to be packed anew; or, with --encode, prompts alone: a .txt of one a line, a table, or a folder of .txt files.
The same source and options give the same bytes; what --encode makes depends on the machine, too. A conversion that was
stopped continues with the same command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes SOURCE into DEST and prints what was written; returns the exit status, 2 for a mistake of the user."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> int:
        from realuid.jobs import make_shards

        return make_shards.work(arguments, parser.get_default)

    return guarded("make_shards", work)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="make_shards", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="see above")
    add("dest", metavar="DEST", help="a folder or any fsspec URL, such as s3://bucket/imagenet64")
    add("--resolution", type=_size, metavar="N|WxH", help="in pixels (default: as the images are)")
    add(
        "--crop",
        type=_crop,
        default="none",
        help="none; centre, the largest part in the middle that has the resolution's shape, without one the largest "
        "square; N or WxH, the middle of that size; or adm, the box-and-bicubic preparation of ImageNet for ADM and "
        "EDM (%(default)s)",
    )
    add(
        "--buckets",
        type=_buckets,
        metavar="STEP|WxH,WxH,...",
        help="several sizes: of about the area of --resolution, with sides that are multiples of STEP pixels and from "
        "1:2 to 2:1, or those named; each picture is scaled and cropped to the one that keeps most of it, and DEST "
        "holds a set for each",
    )
    add("--filter", choices=FILTERS, default="lanczos", help="of resizing (%(default)s)")
    add(
        "--format",
        choices=FORMATS,
        default="keep",
        help="of the images; keep leaves files that need no change as they are and writes png otherwise (%(default)s)",
    )
    add("--quality", type=_quality, default=95, metavar="Q", help="of jpg, 1 to 95 (%(default)s)")
    add("--grey", action="store_true", help="one channel")
    add(
        "--background",
        type=_colour,
        metavar="COLOUR",
        help="what transparent images are put on, such as white or #808080 (default: they are refused)",
    )
    add(
        "--labels",
        default="auto",
        metavar="auto|none|FILE",
        help="auto takes dataset.json, metadata.jsonl or class folders; a file is JSON {name: label}, or CSV of "
        "name,label with or without a line of names; labels are numbers or words (%(default)s)",
    )
    pairs = parser.add_mutually_exclusive_group()
    pairs.add_argument("--pairs", metavar="FOLDER", help="source images with the names of those in SOURCE")
    pairs.add_argument("--side-by-side", choices=("left", "right"), help="the half that holds the source image")
    add(
        "--encode",
        metavar="TEACHER",
        help="a pipeline of diffusers (a folder, hf://owner/name, or a gin file that names one): pictures become the "
        "latents of its autoencoder, captions the embeddings of its text encoders, beside the captions themselves",
    )
    add(
        "--tokens",
        type=_positive,
        metavar="N",
        help="of the embeddings (default: as the gin file says, or as usual)",
    )
    add("--split", metavar="NAME", help="the split to write (default: all, or train)")
    add("--shard-size", type=_positive, default=10_000, metavar="N", help="samples per shard (%(default)s)")
    add("--shuffle", type=_seed, metavar="SEED", help="of the order of storage (0; shards keep theirs)")
    add("--skip-damaged", action="store_true", help="leave out what cannot be read or moves, listed in damaged.txt")
    add("--workers", type=_count, default=0, metavar="N", help="processes; 0 works in this one (%(default)s)")
    add("--name", help="of the data set (default: DEST's last part)")
    add("--licence", default="", metavar="TEXT", help="of the data, for the index")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _positive(text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _quality(text: str) -> int:
    if (quality := _positive(text)) > 95:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 95")
    return quality


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed, 0 to {2**32 - 1}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    """Height and width of `N` or `WxH`."""
    width, cross, height = text.lower().partition("x")
    if cross and not (width and height):
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor WxH")
    size = (_positive(height), _positive(width)) if cross else (_positive(text), _positive(text))
    if max(size) > LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {LARGEST:,} pixels")
    return size


def _buckets(text: str) -> int | tuple[tuple[int, int], ...]:
    """The step of the sides, or height and width of each bucket."""
    if "x" not in text.lower():
        return _positive(text)
    sizes = tuple(_size(part.strip()) for part in text.split(","))
    if len(set(sizes)) < len(sizes):
        raise argparse.ArgumentTypeError(f"{text!r} names a size twice")
    return sizes


def _crop(text: str) -> str | tuple[int, int]:
    if text in ("none", "centre", "adm"):
        return text
    try:
        return _size(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not none, centre, adm, a number of pixels or WxH") from None


def _colour(text: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no colour such as white, #808080 or rgb(0,0,0)") from None
    return red, green, blue
