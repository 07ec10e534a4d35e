"""The command: its options, its messages, and what becomes of it when it is stopped."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from realuid.commands.make_shards import main
from realuid.data.preparation import conversion
from realuid.data.shards import files
from realuid.data.shards.index import ShardIndex
from tests.data.handmade import encode
from tests.data.making import as_set, expected, fill, images, make, refused, stored


def test_writes_and_refuses_to_overwrite(tmp_path, capsys):
    dest = str(tmp_path / "digits")
    assert main(["digits", dest, "--shard-size", "1000"]) == 0
    out = capsys.readouterr().out
    assert dest in out
    assert "train: 1797 samples in 2 shards" in out
    index = ShardIndex.read(dest)
    assert [shard.samples for shard in index.splits["train"].shards] == [1000, 797]

    assert main(["digits", dest]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{dest} already holds a data set" in error
    assert ShardIndex.read(dest) == index


def test_any_url():
    url = f"memory://{uuid.uuid4().hex}/digits"
    assert main(["digits", url]) == 0
    assert ShardIndex.read(url).splits["train"].samples == 1797
    fs, root = fsspec.core.url_to_fs(url)
    fs.rm(root, recursive=True)


def test_unusable_url(capsys):
    assert main(["digits", "s9://bucket/digits"]) == 2
    assert capsys.readouterr().err.startswith("make_shards: s9://bucket/digits cannot be opened")


@pytest.mark.parametrize(
    "arguments",
    [
        ["digits"],
        ["digits", "x", "--shard-size", "0"],
        ["digits", "x", "--crop", "middle"],
        ["a", "b", "--workers", "-1"],
    ],
)
def test_wrong_arguments(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "b", "--shuffle", "-1"],
        ["a", "b", "--shuffle", str(2**32)],
        ["a", "b", "--shuffle", "x"],
        ["a", "b", "--resolution", "64x"],
        ["a", "b", "--resolution", "0x4"],
        ["a", "b", "--resolution", "²"],
        ["a", "b", "--crop", "4x-1"],
        ["a", "b", "--quality", "96"],
        ["a", "b", "--background", "whitish"],
        ["a", "b", "--workers", "٣"],
    ],
)
def test_wrong_numbers_and_colours(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_built_in_sets_take_no_options(tmp_path, capsys):
    """They would be ignored."""
    line = refused(capsys, "digits", tmp_path / "out", "--resolution", "4")
    assert "'digits' takes no --resolution" in line
    assert "takes no --skip-damaged" in refused(capsys, "digits", tmp_path / "out", "--skip-damaged")


def test_a_preview(tmp_path):
    """The first samples in their order, eight in a row; each source left of its image; none of latents."""
    pixels = images(11, 4, 6)
    fill(tmp_path / "in", [f"{i:02d}.png" for i in range(11)], pixels)
    make(tmp_path / "in", tmp_path / "out")
    first = stored(tmp_path / "out").images
    preview = np.asarray(Image.open(tmp_path / "out" / "preview.png"))
    scale = 640 // (8 * 6)
    line = max(1, scale // 3)
    for number, image in enumerate(first):
        top, left = number // 8 * (4 * scale + line), number % 8 * (6 * scale + line)
        tile = preview[top : top + 4 * scale : scale, left : left + 6 * scale : scale]
        assert np.array_equal(tile, image.permute(1, 2, 0).numpy())
    make(tmp_path / "in", tmp_path / "pairs", "--side-by-side", "left")
    batch = stored(tmp_path / "pairs", pairs=True)
    preview = np.asarray(Image.open(tmp_path / "pairs" / "preview.png"))
    scale = 640 // (8 * 3)
    left = preview[: 4 * scale : scale, : 3 * scale : scale]
    assert np.array_equal(left, batch.sources[0].permute(1, 2, 0).numpy())
    (tmp_path / "latents").mkdir()
    np.save(tmp_path / "latents" / "a.npy", np.zeros((4, 8, 8), np.float32))
    make(tmp_path / "latents", tmp_path / "no preview")
    assert not (tmp_path / "no preview" / "preview.png").exists()


def spoil(folder, count=12):
    """A dozen images in two classes, three of which cannot be decoded."""
    pixels = images(count)
    names = [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(count)]
    fill(folder, names, pixels)
    for i in (3, 4, 9):
        file = folder / names[i]
        file.write_bytes(file.read_bytes()[:50])
    whole = [i for i in range(count) if i not in (3, 4, 9)]
    return expected(pixels[whole], [i % 2 for i in whole])


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_all_damaged_files_at_once(tmp_path, capsys, workers):
    """All are listed before anything is given up; left out if asked for, and listed then, too."""
    whole = spoil(tmp_path / "in")
    options = ("--shard-size", "4", "--workers", workers)
    line = refused(capsys, tmp_path / "in", tmp_path / "out", *options)
    assert "(and 2 more, all in " in line
    assert "--skip-damaged leaves out what cannot be decoded" in line
    listed = (tmp_path / "out" / "damaged.txt").read_text().splitlines()
    assert sorted(line.partition(".png")[0][-4:] for line in listed) == ["a/04", "b/03", "b/09"]
    index = make(tmp_path / "in", tmp_path / "out", *options, "--skip-damaged")
    assert (index.splits["train"].samples, index.splits["train"].labels) == (9, (5, 4))
    assert as_set(stored(tmp_path / "out")) == whole
    assert sorted((tmp_path / "out" / "damaged.txt").read_text().splitlines()) == sorted(listed)
    make(tmp_path / "in", tmp_path / "other", *options, "--skip-damaged")
    for file in (tmp_path / "other").glob("*.tar"):
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


def test_what_is_whole_is_not_skipped(tmp_path, capsys):
    """Transparency is a question and no damage; and without the option nothing that was skipped before is taken."""
    spoil(tmp_path / "in")
    rgba = np.concatenate([images(1)[0], np.full((6, 6, 1), 9, np.uint8)], axis=2)
    (tmp_path / "in" / "a" / "20.png").write_bytes(encode(rgba))
    line = refused(capsys, tmp_path / "in", tmp_path / "out", "--shard-size", "4", "--skip-damaged")
    assert "a/20.png is not taken: it is transparent" in line
    assert "(and 3 more, all in" in refused(capsys, tmp_path / "in", tmp_path / "out", "--shard-size", "4")
    assert len((tmp_path / "out" / "damaged.txt").read_text().splitlines()) == 4


def test_everything_is_damaged(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"?")
    line = refused(capsys, tmp_path / "in", tmp_path / "out", "--skip-damaged")
    assert "nothing of the source can be read" in line


SLOW = """
import sys, time
import realuid.data.preparation.tasks as tasks
from realuid.commands.make_shards import main
work = tasks._work
def slow(*arguments):
    time.sleep(60)
    return work(*arguments)
tasks._work = slow
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, how):
    fill(tmp_path / "in", [f"{i}.png" for i in range(8)], images(8))
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "slow.py", "in", "out", "--quiet", "--workers", "2", "--shard-size", "1"]
    parent = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        children = wait_for(lambda: workers_of(parent.pid))
        parent.send_signal(how)
        parent.wait(30)
        assert wait_for(lambda: not any(alive(child) for child in children))
    finally:
        parent.kill()


def workers_of(parent):
    """Its two workers once both are at work, with the process that spawn keeps for semaphores left aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(status[1]) == parent and b"spawn_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found if len(found) == 2 else None


def alive(process):
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(found):
    for _ in range(600):
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError("waited for a minute")


def hold(dest, ready, leave):
    with conversion.alone(dest):
        ready.set()
        leave.wait(60)


def test_two_at_once_into_one_place(tmp_path, capsys):
    """The second says so; when the first has died, it goes on from what is there, and nothing half is left."""
    fill(tmp_path / "in", ["a.png"], images(1))
    fork = multiprocessing.get_context("fork")
    ready, leave = fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(str(tmp_path / "out"), ready, leave))
    other.start()
    try:
        assert ready.wait(30)
        assert "another process is writing into" in refused(capsys, tmp_path / "in", tmp_path / "out")
    finally:
        other.kill()
        other.join()
    (tmp_path / "out" / "123.tmp").write_bytes(b"half a shard")
    make(tmp_path / "in", tmp_path / "out")
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["index.json", "preview.png", "train-000000.tar", "train-000000.tar.layout"]


def test_places_that_cannot_be_written(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png"], images(1))
    (tmp_path / "file").write_text("")
    for dest in ("/proc/nowhere/out", tmp_path / "file", tmp_path / "file" / "out", "/dev/full/x"):
        line = refused(capsys, tmp_path / "in", dest)
        assert str(dest) in line


def test_a_full_disk(tmp_path, capsys, monkeypatch):
    """It is told in one line, and what was finished is kept."""
    fill(tmp_path / "in", [f"{i}.png" for i in range(4)], images(4))
    put, calls = files.put_bytes, []

    def full(dest, file, content):
        calls.append(file)
        if file == "train-000001.tar.layout":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(dest, file, content)

    monkeypatch.setattr(files, "put_bytes", full)
    line = refused(capsys, tmp_path / "in", tmp_path / "out", "--shard-size", "2")
    assert "train-000001.tar cannot be written: the disk is full" in line
    monkeypatch.setattr(files, "put_bytes", put)
    make(tmp_path / "in", tmp_path / "out", "--shard-size", "2")
    assert calls.count("train-000000.tar.layout") == 1


def test_what_nobody_foresaw_has_its_status(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("realuid.jobs.make_shards.make", fail)
    assert main(["digits", str(tmp_path / "digits")]) == 3
    assert capsys.readouterr().err.startswith("Traceback")


def test_options_that_do_not_go_together(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png"], images(1))
    line = refused(capsys, tmp_path / "in", tmp_path / "out", "--crop", "adm", "--resolution", "4x2")
    assert "the preparation of ADM gives squares" in line
