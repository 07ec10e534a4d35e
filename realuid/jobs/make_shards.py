"""A data set as shards with an index."""

import argparse
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from realuid.data.builtin.sets import BUILTIN, make
from realuid.data.preparation.aspects import Size, sizes
from realuid.data.preparation.buckets import convert_in_buckets, folder_of
from realuid.data.preparation.conversion import convert
from realuid.data.preparation.encoding import Encoding
from realuid.data.preparation.prepare import Preparation
from realuid.data.shards.files import put_bytes
from realuid.data.shards.index import ShardIndex, has_index
from realuid.data.shards.location import read_file
from realuid.data.shards.reader import read_shard
from realuid.data.sources import Source, open_pairs, open_source
from realuid.jobs.buckets_gin import BUCKETS_FILE, buckets_gin
from realuid.utils import remote
from realuid.utils.errors import DataError
from realuid.utils.printed import plain

__all__ = ["work"]

PREVIEW_FILE = "preview.png"
PREVIEW = 64
"""Samples that the preview shows."""
DECODED = 16
"""Latents that it shows, which take longer."""
PROBE = 64
"""Side of the picture that tells how many pixels a latent stands for; of autoencoders always a power of two."""
COLUMNS = 8
PIXELS = 640
"""Width that the preview is enlarged to, in about so many pixels."""
SINGLE = "it makes latents of single pictures"
STORED = "latents are stored as arrays"
NOT_ENCODED = {
    "pairs": SINGLE,
    "side_by_side": SINGLE,
    "format": STORED,
    "quality": STORED,
    "grey": "autoencoders take pictures in colour, grey ones as such",
}
"""Options that go with pictures as they are stored, and why not with latents."""
RESUMED = ("filter", "format", "quality", "grey", "background", "labels", "split", "shard_size", "shuffle", "name")
"""Options that a conversion into buckets which was stopped is asked for again with."""
SHOWN = 20
"""Classes that are printed by their names."""


def work(args: argparse.Namespace, default: Callable[[str], Any]) -> int:
    """Writes SOURCE into DEST and prints what was written.

    Args:
        args: the options.
        default: of an option, by its name.

    Raises:
        DataError: SOURCE cannot be read, or DEST holds something already or cannot be written.
    """
    try:
        made = _made(args, default)
    except ValueError as error:  # of options that do not go together, or what a file holds
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{error.filename or args.dest}: {remote.reason(error)}") from error
    for dest, index in made.items():
        _tell(dest, index)
    if args.buckets:
        print(f"a run reads them by `--gin RECIPE --gin {args.dest}/{BUCKETS_FILE}`")
    return 0


def _tell(dest: str, index: ShardIndex) -> None:
    licence = f", {index.licence}" if index.licence else ""
    shape = "x".join(str(length) for length in (index.channels, *(index.image_size or ())))
    held = "prompts without images" if index.image_size is None else f"{shape} {index.dtype}"
    print(f"{dest}: {index.name}, {held}{licence}")
    if index.conditions:
        print(f"  conditions: {', '.join(map(str, index.conditions))}")
    for name, split in index.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        labels = f", labels {split.labels}" if split.labels is not None and len(split.labels) <= SHOWN else ""
        print(f"  {name}: {split.samples} samples in {len(split.shards)} shards, {size} bytes{labels}")
    if index.classes:
        more = f", ... {index.classes[-1]}" if len(index.classes) > SHOWN else ""
        print(f"  {len(index.classes)} classes: {', '.join(index.classes[:SHOWN])}{more}")


def _made(args: argparse.Namespace, default: Callable[[str], Any]) -> dict[str, ShardIndex]:
    """What was made, by its place."""
    if has_index(args.dest) or read_file(args.dest, BUCKETS_FILE) is not None:
        raise DataError(f"{args.dest} already holds a data set and is left alone")
    encoding = None
    if args.source in BUILTIN:
        _refuse_options(args, default)
        index = make(args.source, args.dest, shard_size=args.shard_size)
    else:
        encoding = _encoding(args, default)
        sources = _sources(args)
        for note in dict.fromkeys(note for source in sources.values() for note in source.notes):
            print(plain(note), flush=True)
        _check_place(args, next(iter(sources.values())))
        if args.buckets:
            return _in_buckets(args, sources, encoding)
        index = _converted(args, sources, args.dest, args.resolution, encoding)
    _write_preview(args.dest, index, encoding)
    return {args.dest: index}


def _in_buckets(
    args: argparse.Namespace, sources: Mapping[str, Source], encoding: Encoding | None
) -> dict[str, ShardIndex]:
    """A set for each aspect bucket, by its place."""
    buckets = _bucket_sizes(args)
    if encoding is not None:
        _check_encodable(buckets, encoding)

    def convert(parts: Mapping[str, Source], dest: str, size: Size) -> ShardIndex:
        index = _converted(args, parts, dest, size, encoding)
        _write_preview(dest, index, encoding)
        return index

    made = convert_in_buckets(
        sources,
        args.dest,
        buckets=buckets,
        options={name: vars(args)[name] for name in RESUMED}
        | ({} if encoding is None else {"encoding": encoding.made_by(pictures=True)}),
        convert=convert,
        finish=lambda made: (BUCKETS_FILE, buckets_gin(args.dest, made, encoded=encoding is not None).encode()),
        workers=args.workers,
        progress=not args.quiet,
    )
    return {f"{args.dest}/{folder_of(size)}": index for size, index in made.items()}


def _bucket_sizes(args: argparse.Namespace) -> tuple[Size, ...]:
    if args.crop not in ("none", "centre"):
        raise DataError("--buckets crops to the middle of each size: leave --crop out")
    if isinstance(args.buckets, tuple):
        if args.resolution is not None:
            raise DataError("--buckets names the sizes: leave --resolution out")
        return args.buckets
    if args.resolution is None:
        raise DataError("--buckets STEP needs --resolution, whose area the buckets have")
    return sizes(args.resolution, args.buckets)


def _check_encodable(buckets: Sequence[Size], encoding: Encoding) -> None:
    """Makes sure, before anything is made, that the autoencoder takes the sides of all buckets."""
    import torch  # slow to import

    latents = encoding.autoencoder(torch.zeros((1, 3, PROBE, PROBE), dtype=torch.uint8))
    factor = PROBE // latents.shape[2]
    if wrong := [size for size in buckets if any(side % factor for side in size)]:
        raise DataError(
            f"--buckets: {folder_of(wrong[0])} has sides that are no multiples of {factor}, the pixels of a latent of "
            f"{encoding.autoencoder.name}"
        )


def _encoding(args: argparse.Namespace, default: Callable[[str], Any]) -> Encoding | None:
    """What makes latents and embeddings, if they are asked for."""
    if args.encode is None:
        if args.tokens is not None:
            raise DataError("--tokens is the length of the embeddings that --encode makes")
        return None
    for name, reason in NOT_ENCODED.items():
        if vars(args)[name] != default(name):
            raise DataError(f"--encode takes no --{name.replace('_', '-')}: {reason}")
    from realuid.jobs.encoders import described_encoding  # slow to import
    from realuid.pretrained.pipelines.encoding import encoding_of

    if not args.encode.endswith(".gin"):
        return encoding_of(args.encode, args.tokens)
    if args.tokens is not None:
        raise DataError(f"--tokens is told by {args.encode}, as PipelineEncoder.tokens")
    return described_encoding(args.encode)


def _check_place(args: argparse.Namespace, any_source: Source) -> None:
    """Refuses a DEST inside what is read."""
    if "://" not in args.dest and (taken := any_source.would_take(Path(args.dest))):
        raise DataError(f"{args.dest} lies in {taken}, of which it would be a part the next time")


def _converted(
    args: argparse.Namespace, sources: Mapping[str, Source], dest: str, size: Size | None, encoding: Encoding | None
) -> ShardIndex:
    any_source = next(iter(sources.values()))
    return convert(
        sources,
        dest,
        preparation=Preparation(
            resolution=size,
            crop="centre" if args.buckets else args.crop,
            filter=args.filter,
            format="npy" if encoding else args.format,
            quality=args.quality,
            grey=not encoding and (args.grey or any_source.grey),
            background=args.background,
        ),
        encoding=encoding,
        name=(args.name or args.dest.rstrip("/").rpartition("/")[2]) + dest.removeprefix(args.dest),
        source=args.source if args.pairs is None else f"{args.source}, paired with {args.pairs}",
        licence=args.licence,
        shard_size=args.shard_size,
        workers=args.workers,
        shuffle=args.shuffle if args.shuffle is not None else None if any_source.mixed else 0,
        skip_damaged=args.skip_damaged,
        progress=not args.quiet,
    )


def _sources(args: argparse.Namespace) -> Mapping[str, Source]:
    if args.pairs or args.side_by_side:
        sources = open_pairs(args.source, args.labels, sources=args.pairs, half=args.side_by_side)
    else:
        sources = open_source(args.source, args.labels)
    if args.split is None:
        return sources
    if args.split in sources:
        return {args.split: sources[args.split]}
    if list(sources) != ["train"]:
        raise DataError(f"{args.source} has the splits {', '.join(sources)}, not '{args.split}'")
    return {args.split: sources["train"]}


def _refuse_options(args: argparse.Namespace, default: Callable[[str], Any]) -> None:
    """A built-in set is what it is."""
    for name, value in vars(args).items():
        if name not in ("source", "dest", "shard_size", "quiet", "workers") and value != default(name):
            raise DataError(f"the built-in set '{args.source}' takes no --{name.replace('_', '-')}")


def _write_preview(dest: str, index: ShardIndex, encoding: Encoding | None) -> None:
    """preview.png: the first samples of the first split, each source image left of its image; latents decoded."""
    split = next(iter(index.splits.values()))
    pixels = index.dtype == "uint8" and index.channels in (1, 3)
    if index.image_size is None or not (pixels or encoding):
        return
    import torch  # slow to import, and needed for nothing else

    from realuid.evaluation.image_grid import image_grid

    pairs = "source." in index.format
    shards = (read_shard(dest, shard, index.form(pairs=pairs)) for shard in split.shards)
    shown = []
    count = DECODED if encoding else PREVIEW // (1 + pairs)
    for sample in itertools.islice(itertools.chain.from_iterable(shards), count):
        shown += [sample.source, sample.image] if pairs else [sample.image]
    images = torch.stack([torch.from_numpy(image.copy()) for image in shown if image is not None])
    if encoding:
        from realuid.pretrained.pipelines.encoding import pictures_of  # slow to import

        images = pictures_of(encoding, images)
    file = io.BytesIO()
    image_grid(images, COLUMNS, max(1, PIXELS // (COLUMNS * images.shape[3]))).save(file, "PNG")
    put_bytes(dest, PREVIEW_FILE, file.getvalue())
