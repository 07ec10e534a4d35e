"""Exactly once with real processes: forked workers, spawned ones that read from a real S3 server, two ranks."""

import json
import os
from functools import cached_property

import numpy as np
import pytest
import torch

from realuid.conditions import LABEL, Field
from realuid.conditions.text import TextEncoder
from realuid.data.augment import Flipped
from realuid.data.prefetched import Prefetched
from realuid.data.streaming import Streaming
from realuid.utils.arrays import npy_file
from realuid.utils.errors import DataError
from tests import ranks
from tests.data.handmade import encode, numbered_set, numbers_of, shards_set, tar
from tests.s3 import served

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself

CPU = torch.device("cpu")


def opened(path, workers, start_method="fork", **changes):
    stream = Streaming(**{"path": path, "shape": (1, 2, 2), "classes": 3, "shuffle": 2} | changes)
    data = Prefetched(data=Flipped(data=stream), workers=workers, start_method=start_method)
    data.open(seed=4, device=CPU)
    return data


def drained(data, epochs=2, batch=5):
    """The raw bytes of all images of some epochs, and their labels."""
    images, labels = [], []
    for start in range(0, epochs * len(data), batch):
        given = data.batch(start, batch)
        images += [image.numpy().tobytes() for image in given.images]
        labels += given.condition[LABEL].tolist()
    return images, labels


@pytest.mark.parametrize(
    ("start_method", "workers"), [("fork", 2), ("fork", 5), pytest.param("forkserver", 1, marks=pytest.mark.slow)]
)
def test_local_archives(tmp_path, start_method, workers):
    """Also with more workers than shards: each reads its own batches of the one order."""
    path = numbered_set(tmp_path / "set", [7, 4, 9], gz=True)
    assert drained(opened(path, workers, start_method)) == drained(opened(path, 0))
    stored = opened(path, workers, start_method).examples(0, 20)
    assert numbers_of(stored.images) == list(range(20))


@pytest.fixture
def s3(monkeypatch):
    with served(monkeypatch) as (fs, _):
        yield fs


def test_s3(tmp_path, s3, monkeypatch):
    """Spawned workers, two sets with equal file names and other content, and a shard cut on the server."""
    folder = numbered_set(tmp_path / "set", [7, 4, 9])
    other = numbered_set(tmp_path / "other", [7, 3, 9])
    s3.put(folder, "bucket/set", recursive=True)
    s3.put(other, "bucket/other", recursive=True)
    expected = drained(opened(folder, 0))
    assert drained(opened("s3://bucket/set", 2, "spawn")) == expected
    assert drained(opened("s3://bucket/other", 0)) == drained(opened(other, 0)) != expected
    assert drained(opened("s3://bucket/set/train-{000000..000002}.tar", 0)) == expected

    whole = s3.cat_file("bucket/set/train-000001.tar")
    s3.pipe_file("bucket/set/train-000001.tar", whole[: len(whole) // 2 // 512 * 512])
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "new cache"))
    cut = opened("s3://bucket/set", 0)
    with pytest.raises(DataError, match=r"s3://bucket/set/train-000001.tar holds \d samples, the index says 4"):
        drained(cut)
    # Once it is whole again the damaged copy is not taken.
    s3.pipe_file("bucket/set/train-000001.tar", whole)
    assert drained(opened("s3://bucket/set", 0)) == expected


def test_shards_are_written_to_s3(tmp_path, s3):
    from realuid.commands.make_shards import main

    assert main(["digits", "s3://bucket/digits"]) == 0
    folder = numbered_set(tmp_path / "set", [7, 4])
    assert main([folder, "s3://bucket/made", "--quiet", "--shard-size", "6"]) == 0
    assert {name.rpartition("/")[2] for name in s3.ls("bucket/made")} == {
        "index.json",
        "preview.png",
        *(f"train-00000{i}.tar{suffix}" for i in (0, 1) for suffix in ("", ".layout")),
    }
    data = opened("s3://bucket/made", 0)
    assert sorted(numbers_of(data.examples(0, 11).images)) == list(range(11))


def rank_main(path, out):
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    data = opened(path, workers=1)
    rows, given = 12 // world, []
    for step in range(10):
        images = data.batch(12 * step + rank * rows, rows).images
        parts = [torch.empty_like(images) for _ in range(world)]
        torch.distributed.all_gather(parts, images)
        given += numbers_of(torch.cat(parts).sort(dim=-1).values)
    if rank == 0:
        with open(out, "w") as file:
            json.dump(given, file)
    torch.distributed.destroy_process_group()


def test_two_ranks(tmp_path):
    """Two gloo processes with a worker each: their rows together are the order of one process."""
    path = numbered_set(tmp_path / "set", [11, 4, 9, 6], gz=True)
    out = tmp_path / "given.json"
    assert ranks.run(2, rank_main, path, out) == [0, 0]
    alone = opened(path, workers=0)
    images = torch.cat([alone.batch(12 * step, 12).images for step in range(10)])
    assert json.loads(out.read_text()) == numbers_of(images.sort(dim=-1).values)


def test_errors_come_from_workers(tmp_path):
    path = numbered_set(tmp_path / "set", [7, 4, 9])
    (tmp_path / "set" / "train-000001.tar").write_bytes(b"no tar")
    data = opened(path, workers=2)
    with pytest.raises(DataError, match=r"train-000001.tar holds 0 samples, the index says 4") as caught:
        drained(data)
    assert "\n" not in str(caught.value)


def test_faults_come_from_workers(tmp_path):
    """Counted together, each once, and the limit is that of all workers together."""
    path = numbered_set(tmp_path / "set", [7, 4, 9])
    shard = tmp_path / "set" / "train-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: whole.index(b"000000009.png")])  # two of its four samples are lost
    for workers in (0, 2):
        data = opened(path, workers, tolerate=2)
        drained(data, epochs=3)
        assert data.faults() == {"cut": 2}
        strict = opened(path, workers, tolerate=1)
        with pytest.raises(DataError, match="one more than tolerate = 1"):
            drained(strict)


class Counted(TextEncoder):
    """Notes which process computes its checksum."""

    fields = (Field("text", (2,), "float32"),)
    name = "Counted"

    def __init__(self, notes):
        self.notes = str(notes)

    @cached_property
    def checksum(self):
        with open(self.notes, "a") as file:
            file.write(f"{os.getpid()}\n")
        return "c" * 64

    def __call__(self, prompts):
        raise NotImplementedError


@pytest.mark.parametrize("start_method", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_the_checksum_of_an_encoder_is_computed_once(tmp_path, start_method):
    image, text = encode(np.zeros((2, 2), np.uint8)), npy_file(np.zeros(2, np.float32))
    shard = tar([(f"{n}.{kind}", data) for n in range(4) for kind, data in (("png", image), ("text.npy", text))])
    told = {"classes": [], "encoder": {"text": f"Counted {'c' * 64}"}}
    told["conditions"] = [{"name": "text", "shape": [2], "dtype": "float32", "classes": 0}]
    path = shards_set(tmp_path / "set", [shard], [4], **told)
    data = opened(path, 2, start_method, classes=0, encoder=Counted(tmp_path / "notes"))
    for start in (0, 2):
        assert data.batch(start, 2).condition["text"].shape == (2, 2)
    assert (tmp_path / "notes").read_text().split() == [str(os.getpid())]
