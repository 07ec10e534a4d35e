"""Conversions: the same bytes, resumed, alone, nothing overwritten."""

import io
import tarfile
import uuid
import zipfile

import numpy as np
import pytest

from realuid.commands.make_shards import main
from realuid.data.preparation import tasks
from realuid.data.shards.index import ShardIndex
from realuid.data.shards.layout import Layout
from realuid.utils.errors import DataError
from tests.data.making import fill, images, make, refused
from tests.data.sources.test_published import cifar_files


@pytest.mark.slow
def test_same_bytes_with_any_workers(tmp_path):
    fill(tmp_path / "in", [f"{k}/{i}.png" for k in "ab" for i in range(9)], images(18))
    options = ("--shard-size", "4", "--resolution", "5", "--name", "set")
    for i, workers in enumerate(("0", "0", "2")):
        make(tmp_path / "in", tmp_path / f"out{i}", *options, "--workers", workers)
    files = {file.name: file.read_bytes() for file in (tmp_path / "out0").iterdir()}
    assert len(files) == 12  # five shards, five layouts, the index, a preview; nothing else is left
    for i in (1, 2):
        assert {file.name: file.read_bytes() for file in (tmp_path / f"out{i}").iterdir()} == files


def test_resumes(tmp_path, monkeypatch, capsys):
    """Stopped in the middle, it goes on, and ends at the same bytes; finished shards are not written again."""
    fill(tmp_path / "in", [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(20)], images(20))
    options = ("--shard-size", "4", "--name", "set")
    make(tmp_path / "in", tmp_path / "whole", *options)
    write, calls = tasks.write_shard, []

    def stopped(dest, file, samples):
        calls.append(file)
        if len(calls) == 3:
            raise DataError("no space left")
        return write(dest, file, samples)

    monkeypatch.setattr(tasks, "write_shard", stopped)
    assert "no space left" in refused(capsys, tmp_path / "in", tmp_path / "out", *options)
    with pytest.raises(DataError, match="holds no data set"):
        ShardIndex.read(str(tmp_path / "out"))
    # Something else is not mixed into it.
    assert "beginning of another conversion" in refused(capsys, tmp_path / "in", tmp_path / "out", "--shard-size", "5")
    make(tmp_path / "in", tmp_path / "out", *options)
    assert calls[3:] == ["train-000002.tar", "train-000003.tar", "train-000004.tar"]
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == whole


@pytest.mark.parametrize("zipped", [False, True])
def test_files_that_were_replaced_since_are_not_mixed_in(tmp_path, monkeypatch, capsys, zipped):
    """Also by some of the same length, as all arrays of a set are."""
    source = tmp_path / "in.zip" if zipped else tmp_path / "in"

    def write(value: float) -> None:
        file = io.BytesIO()
        np.save(file, np.full((4, 8, 8), value, np.float32))
        if not zipped:
            source.mkdir(exist_ok=True)
            for name in "ab":
                (source / f"{name}.npy").write_bytes(file.getvalue())
            return
        with zipfile.ZipFile(source, "w") as archive:
            for name in "ab":
                archive.writestr(f"{name}.npy", file.getvalue())

    def stopped(dest, file, samples):
        if "000001" in file:
            raise DataError("no space left")
        return whole(dest, file, samples)

    whole = tasks.write_shard
    monkeypatch.setattr(tasks, "write_shard", stopped)
    write(1.0)
    assert "no space left" in refused(capsys, source, tmp_path / "out", "--shard-size", "1")
    write(2.0)
    assert "beginning of another conversion" in refused(capsys, source, tmp_path / "out", "--shard-size", "1")


def test_overwrites_nothing(tmp_path, capsys):
    fill(tmp_path / "in", ["0.png"], images(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "is not empty and is left alone" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
    make(tmp_path / "in", tmp_path / "set")
    assert "already holds a data set" in refused(capsys, tmp_path / "in", tmp_path / "set")


def test_into_memory(tmp_path):
    fill(tmp_path / "in", ["0.png"], images(1))
    url = f"memory://{uuid.uuid4().hex}/set"
    assert make(tmp_path / "in", url).splits["train"].samples == 1


def test_nothing_to_read(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert "holds no images" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "nowhere is not there" in refused(capsys, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "cannot be read" in refused(capsys, tmp_path / "a.zip", tmp_path / "out")
    fill(tmp_path / "in", ["a/0.png", "b/1.png", "2.png"], images(3))
    assert "2.png does not: are the folders classes?" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "has the splits train, test, not 'val'" in refused(
        capsys, _cifar(tmp_path / "cifar"), tmp_path / "out", "--split", "val"
    )


def _cifar(folder):
    cifar_files(folder, np.random.default_rng(0))
    return folder / "bin"


def test_a_bar_is_drawn(tmp_path, capsys):
    fill(tmp_path / "in", ["0.png"], images(1))
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert "1/1" in capsys.readouterr().err


def test_layouts_lie_where_samples_are(tmp_path):
    """The places in the index's own layouts are those of a tar reader; the layout, not a search, is what is used."""
    fill(tmp_path / "in", [f"{i}.png" for i in range(5)], images(5))
    make(tmp_path / "in", tmp_path / "out")
    layout = Layout.from_bytes((tmp_path / "out" / "train-000000.tar.layout").read_bytes())
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        places = [[info.offset_data, info.size] for info in tar]
    assert layout.places[:, 0].tolist() == places
