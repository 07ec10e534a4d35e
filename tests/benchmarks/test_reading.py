"""The table of readers in small: every way reads what it says. Speeds are no test's business."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from realuid.benchmarks.readers import READERS, decoded, takes
from realuid.benchmarks.reading_sets import FORMATS, Made, forget, kind, stored
from realuid.commands.benchmark import main
from realuid.data.streaming import Streaming

SMALL = ["reading", "--images", "24", "--batch", "8", "--seconds", "0.01"]


def lines(capsys, *arguments: str) -> list[dict]:
    assert main([*SMALL, *arguments]) == 0
    _, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return rows


@pytest.mark.slow
def test_every_format_by_every_reader(capsys):
    rows = lines(capsys, "--places", "local", "--workers", "none")
    there = [name for name in READERS if name != "torchvision" or importlib.util.find_spec("torchvision")]
    assert [(row["format"], row["reader"]) for row in rows] == [
        (form, reader) for form in FORMATS for reader in there if takes(reader, form, "local", None)
    ]
    assert all(min(row["cold_images_per_s"], row["warm_images_per_s"], row["warm_a_core"]) > 0 for row in rows)


@pytest.mark.exhaustive
def test_workers_and_s3(capsys):
    pytest.importorskip("moto.server")
    rows = lines(capsys, "--places", "s3", "--formats", "latents", "--workers", "none", "fork")
    assert [(row["reader"], row["workers"]) for row in rows] == [
        *(("realuid", "none"), ("realuid", "fork"), ("webdataset", "none"), ("webdataset", "fork"), ("by hand", "none"))
    ]
    assert {row["place"] for row in rows} == {"s3"}
    rows = lines(capsys, "--places", "local", "--formats", "png", "--workers", "spawn", "--readers", "realuid")
    assert len(rows) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_shards_and_files_hold_the_same(form, tmp_path):
    made = stored(form, str(tmp_path), 6)
    data = Streaming(path=f"{made.url}/shards", shape=made.shape, classes=10, conditions=made.conditions)
    data.open(seed=0, device=torch.device("cpu"))
    forget(tmp_path)
    batch = data.examples(0, 6)
    for number, place in enumerate(made.files):
        with open(place, "rb") as file:
            image = decoded(form, file.read())
        assert torch.equal(batch.images[number], image.to(batch.images.dtype))
        assert batch.condition["label"][number] == number
        for field in made.conditions:
            text = np.load(place.replace(".npy", ".text.npy"))
            np.testing.assert_array_equal(batch.condition[field.name][number].numpy(), text)
    assert Made(form, 6).read(3).image[0] == kind(form)
