"""A destination inside its source: what is written there would be a part of the source the next time. Each kind of
source knows whether it would."""

from pathlib import Path

import numpy as np
import pytest

from realuid.commands.make_shards import main
from realuid.data.sources import open_source
from tests.data.handmade import encode


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fill(folder, *names):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        Path(folder, name).write_bytes(encode(np.zeros((4, 4), np.uint8)) if name.endswith(".png") else b"a cat")


def refused(arguments, capsys):
    assert main([*arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "of which it would be a part the next time" in error
    return error


def test_among_images_of_a_split(capsys):
    fill("all/train", "a.png", "b.png")
    fill("all/val", "a.png")
    for dest in ("all/set", "all/train/set", str(Path("all/set").absolute())):
        assert "lies in all," in refused(["all", dest], capsys)
    assert not list(Path().rglob("*.tar"))
    assert main(["all", "set", "--quiet"]) == 0


def test_among_either_half_of_pairs(capsys):
    fill("x", "a.png")
    fill("y", "a.png")
    assert "lies in x," in refused(["x", "x/set", "--pairs", "y"], capsys)
    assert "lies in y," in refused(["x", "y/set", "--pairs", "y"], capsys)


def test_among_prompts():
    fill("p", "a.txt", "b.txt")
    (source,) = open_source("p").values()
    assert source.would_take(Path("p/set")) == "p"
    assert source.would_take(Path("q/set")) is None


@pytest.mark.slow
def test_beside_shards_of_a_pattern(capsys):
    assert main(["digits", "d", "--quiet"]) == 0
    Path("t").mkdir()
    Path("d/train-000000.tar").rename("t/0.tar")
    assert "/t/*.tar" in refused(["t/*.tar", "t"], capsys)
    assert "/*/*.tar" in refused(["*/*.tar", "out"], capsys)
    assert main(["t/*.tar", "t/out", "--quiet"]) == 0


def test_behind_a_link(capsys):
    fill("x", "a.png")
    Path("link").symlink_to("x")
    refused(["x", "link/set"], capsys)
