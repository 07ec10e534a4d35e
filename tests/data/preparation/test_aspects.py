"""Aspect buckets: which sizes there are, which picture goes where, and the sets that the command writes."""

import json
import uuid

import numpy as np
import pytest
from PIL import Image

from realuid.commands.make_shards import main
from realuid.data.pictures import seen_size
from realuid.data.preparation import buckets, tasks
from realuid.data.preparation.aspects import assigned, nearest, sizes
from realuid.data.shards.index import ShardIndex
from realuid.utils.errors import DataError
from tests.data.handmade import encode
from tests.data.making import refused, stored

SIDES = (7, 9, 12, 16, 25, 40, 63)


def kept(picture, bucket):
    """The share of a picture that is left when it is scaled to cover a bucket and cropped: an independent count."""
    height, width = picture
    rows, columns = bucket
    scale = max(rows / height, columns / width)
    return rows * columns / (scale * height * scale * width)


def test_sizes_are_those_of_the_area():
    found = sizes((1024, 1024), 64)
    assert {(1024, 1024), (832, 1216), (1216, 832), (896, 1152), (704, 1408)} <= set(found)
    for height, width in found:
        assert height % 64 == width % 64 == 0
        assert height * width <= 1024**2 < (height + 64) * (width + 64)
        assert max(height, width) <= 2 * min(height, width)
        assert (width, height) in found
    assert sizes((48, 48), 16)[0] == (32, 64)
    with pytest.raises(DataError, match="leaves no size"):
        sizes((16, 16), 32)


def test_a_picture_goes_where_most_of_it_is_kept():
    buckets = sizes((48, 48), 8)
    for height in range(5, 130, 7):
        for width in range(5, 130, 7):
            share = [kept((height, width), bucket) for bucket in buckets]
            assert share[nearest((height, width), buckets)] == pytest.approx(max(share), abs=1e-12)


def test_ties_and_extremes():
    wide, high = (8, 16), (16, 8)
    assert nearest((10, 10), [high, wide]) == 1  # equally far: of equal area the wider one
    assert nearest((10, 10), [wide, (32, 16)]) == 1  # the larger one
    assert nearest((10, 1000), [high, (12, 12), wide]) == 2
    pictures = np.array([[10, 10], [0, 0], [30, 10], [30, 11], [31, 10]])
    assert assigned(pictures, [high, (12, 12), wide]).tolist() == [1, 0, 0, 0, 0]  # unknown: with the most others


def pictures(folder, count=40, seed=0, form="png"):
    """Pictures of all shapes in a folder; their sizes by name."""
    random, found = np.random.default_rng(seed), {}
    folder.mkdir()
    for number in range(count):
        height, width = random.choice(SIDES, 2).tolist()
        level = np.full((height, width, 3), number, np.uint8)
        (folder / f"{number:03d}.{form}").write_bytes(encode(level, form.upper()))
        (folder / f"{number:03d}.txt").write_text(f"picture {number}")
        found[number] = height, width
    return found


def made_in(dest):
    return {place.name: ShardIndex.read(str(place)) for place in sorted(dest.iterdir()) if place.is_dir()}


def make(source, dest, *options):
    assert main([str(source), str(dest), "--quiet", *options]) == 0
    return made_in(dest)


BUCKETS = ((16, 16), (12, 20), (20, 12), (8, 16), (16, 32))
NAMED = ("--buckets", "16x16,20x12,12x20,16x8,32x16")


def test_every_picture_lies_in_its_bucket(tmp_path, capsys):
    there = pictures(tmp_path / "in")
    made = make(tmp_path / "in", tmp_path / "out", *NAMED, "--name", "set")
    told, expected = capsys.readouterr().out, {}
    for number, picture in there.items():
        best = max(BUCKETS, key=lambda bucket: (round(kept(picture, bucket), 12), bucket[0] * bucket[1], bucket[1]))
        expected.setdefault(f"{best[1]}x{best[0]}", []).append(number)
    found = {name: sorted(stored(tmp_path / "out" / name).images[:, 0, 0, 0].tolist()) for name in made}
    assert found == {name: sorted(numbers) for name, numbers in expected.items()}
    assert len(made) > 2  # and the others have no folder
    for name, index in made.items():
        width, height = map(int, name.split("x"))
        assert (index.channels, *index.image_size) == (3, height, width)
        assert index.name == f"set/{name}"
        assert (tmp_path / "out" / name / "preview.png").exists()
        assert f"train: {len(expected[name])} samples" in told
    left = {place.name for place in (tmp_path / "out").iterdir()}
    assert left == {*made, "buckets.gin"}
    assert "already holds a data set" in refused(capsys, tmp_path / "in", tmp_path / "out", *NAMED)
    assert "already holds a data set" in refused(capsys, tmp_path / "in", tmp_path / "out")


def test_pictures_cover_their_size_and_lose_equal_margins(tmp_path):
    """A horizontal ramp keeps its middle."""
    (tmp_path / "in").mkdir()
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8), (40, 100))
    (tmp_path / "in" / "0.png").write_bytes(encode(np.stack([ramp] * 3, axis=2)))
    make(tmp_path / "in", tmp_path / "out", "--buckets", "20x20,32x16")
    (image,) = stored(tmp_path / "out" / "32x16").images[:, 0].float()
    assert abs(image[:, 0].mean() - 11) < 1.5  # 80 of 100 columns, from the tenth on
    assert abs(image[:, -1].mean() - 88) < 1.5
    (image,) = stored(tmp_path / "out" / "32x16").images[:, 0].float()
    assert image.std(dim=0).max() < 1


def test_the_size_is_that_which_is_seen(tmp_path):
    """An orientation exchanges the sides, also one that a PNG tells behind its pixels."""
    image = Image.new("RGB", (30, 10))
    exif = Image.Exif()
    for kind, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
        for turn, size in ((1, (10, 30)), (3, (10, 30)), (6, (30, 10)), (8, (30, 10))):
            exif[0x0112] = turn
            image.save(tmp_path / f"a.{kind}", form, exif=exif)
            assert seen_size((tmp_path / f"a.{kind}").read_bytes()) == size, (kind, turn)
        image.save(tmp_path / f"b.{kind}", form)
        assert seen_size((tmp_path / f"b.{kind}").read_bytes()) == (10, 30)
    data = (tmp_path / "a.png").read_bytes()
    start, end = data.index(b"eXIf") - 4, data.index(b"IDAT") - 4
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert late.index(b"eXIf") > late.index(b"IDAT")
    assert seen_size(late) == (30, 10)


def test_stopped_and_asked_again_it_ends_at_the_same_bytes(tmp_path, monkeypatch, capsys):
    pictures(tmp_path / "in")
    options = (*NAMED, "--shard-size", "4", "--name", "set")
    make(tmp_path / "in", tmp_path / "whole", *options)
    write, calls, measured = tasks.write_shard, [], []

    def stopped(dest, file, samples):
        calls.append((dest, file))
        if len(calls) == 6:
            raise DataError("no space left")
        return write(dest, file, samples)

    measure = buckets.measured
    monkeypatch.setattr(buckets, "measured", lambda *a, **k: measured.append(0) or measure(*a, **k))
    monkeypatch.setattr(tasks, "write_shard", stopped)
    assert "no space left" in refused(capsys, tmp_path / "in", tmp_path / "out", *options)
    assert not (tmp_path / "out" / "buckets.gin").exists()
    for other in (("--shard-size", "5"), ("--filter", "box"), ("--buckets", "16x16")):
        line = refused(capsys, tmp_path / "in", tmp_path / "out", *options, *other)
        assert "beginning of another conversion" in line
    make(tmp_path / "in", tmp_path / "out", *options)
    assert len(measured) == 1
    assert len(calls) == len(set(calls)) + 1  # only the one that failed was written again

    def files(folder):
        there = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return there | {"buckets.gin": there["buckets.gin"].replace(str(folder).encode(), b"")}

    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_into_memory_and_not_into_the_source(tmp_path, capsys):
    pictures(tmp_path / "in", 12)
    url = f"memory://{uuid.uuid4().hex}/set"
    assert main([str(tmp_path / "in"), url, "--quiet", "--buckets", "16x16,8x16"]) == 0
    found = [ShardIndex.read(f"{url}/{name}").splits["train"].samples for name in ("16x16", "8x16")]
    assert sum(found) == 12
    assert all(found)
    assert "already holds a data set" in refused(capsys, tmp_path / "in", url, "--buckets", "16x16,8x16")
    assert "of which it would be a part" in refused(capsys, tmp_path / "in", tmp_path / "in" / "out", *NAMED)
    assert not (tmp_path / "in" / "out").exists()


def test_damaged_pictures_are_told_and_left_out_as_of_one_set(tmp_path, capsys):
    there = pictures(tmp_path / "in", 24)
    cut = next(number for number, size in there.items() if size == max(there.values(), key=lambda s: s[0] / s[1]))
    whole = (tmp_path / "in" / f"{cut:03d}.png").read_bytes()
    (tmp_path / "in" / f"{cut:03d}.png").write_bytes(whole[: len(whole) // 2])  # its size can still be read
    (tmp_path / "in" / "900.png").write_bytes(b"no picture")
    (tmp_path / "in" / "900.txt").write_text("none")
    line = refused(capsys, tmp_path / "in", tmp_path / "out", *NAMED)
    assert "cannot be decoded" in line
    assert "--skip-damaged leaves out" in line
    made = make(tmp_path / "in", tmp_path / "out", *NAMED, "--skip-damaged")
    assert sum(index.splits["train"].samples for index in made.values()) == len(there) - 1
    told = "".join(path.read_text() for path in (tmp_path / "out").glob("*/damaged.txt"))
    assert f"{cut:03d}.png cannot be decoded" in told
    assert "900.png cannot be decoded" in told


def test_a_bucket_of_damaged_pictures_alone_is_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    for name, size in (("a", (16, 16)), ("b", (17, 17)), ("c", (10, 30))):
        data = encode(np.zeros((*size, 3), np.uint8))
        (tmp_path / "in" / f"{name}.png").write_bytes(data[: len(data) // 2] if name == "c" else data)
    assert main([*map(str, (tmp_path / "in", tmp_path / "out")), "--quiet", "--skip-damaged", *NAMED]) == 0
    assert "16x16" in (tmp_path / "out" / "buckets.gin").read_text()
    assert "32x16" not in (tmp_path / "out" / "buckets.gin").read_text()


def test_captions_labels_and_splits_are_kept(tmp_path):
    for split, count in (("train", 20), ("val", 3)):
        for label in "ab":
            (tmp_path / "in" / split).mkdir(parents=True, exist_ok=True)
            pictures(tmp_path / "in" / split / label, count, seed=ord(label))
    made = make(tmp_path / "in", tmp_path / "out", *NAMED)
    counted = {split: [0, 0] for split in ("train", "val")}
    for name, index in made.items():
        assert index.classes == ("a", "b")
        for split, found in index.splits.items():
            assert found.samples
            counted[split] = np.add(counted[split], found.labels).tolist()
        data = stored(tmp_path / "out" / name, next(iter(index.splits)))
        assert len(data.condition["label"]) == len(data.images)
    assert counted == {"train": [20, 20], "val": [3, 3]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--buckets", "8"), "--buckets STEP needs --resolution"),
        (("--buckets", "64", "--resolution", "32"), "leaves no size"),
        ((*NAMED, "--resolution", "32"), "leave --resolution out"),
        ((*NAMED, "--crop", "adm"), "leave --crop out"),
        ((*NAMED, "--side-by-side", "left"), "takes single pictures, not pairs"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, capsys, options, words):
    pictures(tmp_path / "in", 2)
    assert words in refused(capsys, tmp_path / "in", tmp_path / "out", *options)


def test_arrays_and_nothing_readable_are_refused(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.zeros((4, 8, 8), np.float32))
    assert "--buckets takes pictures, which it crops" in refused(capsys, tmp_path / "in", tmp_path / "out", *NAMED)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(b"no picture")
    assert "none of the pictures can be read" in refused(capsys, tmp_path / "other", tmp_path / "two", *NAMED)
    assert "takes no --buckets" in refused(capsys, "digits", tmp_path / "three", *NAMED)


@pytest.mark.slow
def test_workers_give_the_same_bytes(tmp_path):
    pictures(tmp_path / "in")
    one = make(tmp_path / "in", tmp_path / "out", *NAMED, "--name", "set")
    two = make(tmp_path / "in", tmp_path / "two", *NAMED, "--name", "set", "--workers", "2")
    assert json.dumps(one, default=str) == json.dumps(two, default=str)
