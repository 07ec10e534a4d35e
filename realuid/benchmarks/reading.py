"""Our loader beside plain webdataset, torchvision and a loop by hand: by format, by workers, local and on S3, cold and
warm.

Cold is the first pass from the opening on, with nothing in the kernel's memory or the loader's cache; warm is what
comes after it. The S3 server is moto's, in a process on the same machine: what it gives serves the comparison and says
nothing of a network. Workers are one process each. Images a second are by the clock; those a core by processor time of
the reading process and its workers, without the server's.

Prints a line of JSON for the machine and one for each way. What is not installed is left out, and said.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from realuid.benchmarks.readers import READERS, takes
from realuid.benchmarks.reading_sets import FORMATS, Stored, forget, s3_server, stored
from realuid.benchmarks.step import about

PLACES = ("local", "s3")
WORKERS = ("none", "fork", "spawn")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="F", help=f"of {FORMATS}"
    )
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES), metavar="P", help=f"of {PLACES}")
    parser.add_argument(
        "--workers", nargs="+", choices=WORKERS, default=list(WORKERS), metavar="W", help=f"of {WORKERS}"
    )
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), metavar="R", help="(all)")
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="of a set (%(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images of a batch (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a warm measurement (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    size = {"images": arguments.images, "batch": arguments.batch}
    print(json.dumps(about(torch.device("cpu")) | size), flush=True)
    readers = list(arguments.readers)
    if "torchvision" in readers and importlib.util.find_spec("torchvision") is None:
        readers.remove("torchvision")
        print("torchvision is not installed: left out", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="realuid-benchmark-") as folder:
        for place in arguments.places:
            with s3_server() if place == "s3" else contextlib.nullcontext(folder) as url:
                for form in arguments.formats:
                    _format(stored(form, url, arguments.images), place, readers, arguments, Path(folder))
    return 0


def _format(made: Stored, place: str, readers: list[str], arguments: argparse.Namespace, folder: Path) -> None:
    for reader in readers:
        for workers in arguments.workers:
            method = None if workers == "none" else workers
            if takes(reader, made.format, place, method):
                line = {"format": made.format, "place": place, "reader": reader, "workers": workers}
                print(json.dumps(line | measured(reader, made, method, arguments, folder)), flush=True)


def measured(
    reader: str, made: Stored, workers: str | None, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Images a second, cold and warm."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        forget(folder)
        began, read = time.perf_counter(), 0
        batches = READERS[reader](made, arguments.batch, workers, cache)
        while read < made.count:
            read += next(batches)
        cold = read / (time.perf_counter() - began)
        warm, core = _warm(batches, arguments.seconds)
        del batches
        gc.collect()  # workers end with what holds them
    return {"cold_images_per_s": round(cold), "warm_images_per_s": round(warm), "warm_a_core": round(core)}


def _warm(batches: Iterator[int], seconds: float) -> tuple[float, float]:
    read, began, spent = 0, time.perf_counter(), _processor_seconds()
    while not read or time.perf_counter() - began < seconds:
        read += next(batches)
    return read / (time.perf_counter() - began), read / max(_processor_seconds() - spent, 1e-3)


def _processor_seconds() -> float:
    """Of this process and its workers."""
    tick = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for worker in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / tick
    return total
