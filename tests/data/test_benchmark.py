"""The benchmark of reading runs and prints what it promises; its numbers are no test's business."""

import os

import numpy as np
import pytest

from realuid.commands.benchmark import main
from realuid.commands.make_shards import main as make_shards
from tests.data.handmade import encode

QUICK = ["--images", "40", "--seconds", "0.01", "--batch", "4", "--recipes", "gin/fm_digits.gin"]


@pytest.mark.slow
def test_every_way_of_reading(capsys, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", "/kept")
    assert main(["data", *QUICK, "--epochs", "2", "--shards", "3"]) == 0
    out = capsys.readouterr().out
    for line in (
        "32x32 uint8 in memory",
        "gathered, flipped, in [-1, 1]",
        "64x64 JPEG streamed",
        "webdataset's tar iteration alone",
        "Pillow's decoding alone",
        "tar and decoding, the sum",
        "plain webdataset",
        "streamed and flipped in 1 worker(s)",
        "memory after each of 2 epochs",
        "start on 3 shards, pattern: open",
        "real images a second that a step needs",
        "fm_digits",
    ):
        assert line in out
    assert os.environ["REALUID_CACHE"] == "/kept"


@pytest.mark.slow
def test_a_set_of_ones_own(tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for i in range(20):
        (source / f"{i}.jpg").write_bytes(encode(np.full((8, 8, 3), i, np.uint8), "JPEG"))
    assert make_shards([str(source), str(tmp_path / "set"), "--quiet"]) == 0
    assert main(["data", "--path", str(tmp_path / "set"), *QUICK]) == 0
    out = capsys.readouterr().out
    assert str(tmp_path / "set") in out
    assert "32x32" not in out


def test_wrong_arguments(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert main(["data", "--path", "/nowhere", *QUICK]) == 2
    assert "benchmark: /nowhere holds no data set" in capsys.readouterr().err
