"""Parquet files of images, with and without what Hugging Face's library writes beside the columns."""

import json
import tarfile

import numpy as np
import pytest

from tests.data.handmade import encode
from tests.data.making import as_set, expected, fill, images, make, refused, stored

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path, pixels, names=("cat", "dog"), **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": encode(image), "path": None} for image in pixels]
    table = arrow.table({"image": pictures, **columns})
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    if names:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=3)


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_splits_labels_and_captions(tmp_path, workers, capsys):
    pixels = images(9)
    for i, rows in ((0, slice(0, 5)), (1, slice(5, 7))):
        labels = [n % 2 for n in range(9)][rows]
        texts = [f"caption {n}" for n in range(9)][rows]
        write(
            tmp_path / "data" / f"train-0000{i}-of-00002.parquet", pixels[rows], label=labels, text=texts, source=texts
        )
    write(tmp_path / "data" / "test-00000-of-00001.parquet", pixels[7:], label=[1, 1], text=["x", "y"], source=["", ""])
    index = make(tmp_path, tmp_path / "out", "--shard-size", "4", "--workers", workers, "--shuffle", "3")
    assert index.classes == ("cat", "dog")
    assert as_set(stored(tmp_path / "out", "train")) == expected(pixels[:7], [0, 1, 0, 1, 0, 1, 0])
    assert as_set(stored(tmp_path / "out", "test")) == expected(pixels[7:], [1, 1])
    assert "columns that are left out: source" in capsys.readouterr().out
    with tarfile.open(tmp_path / "out" / "test-000000.tar") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    for key in ("000000000", "000000001"):
        number = next(i for i in (7, 8) if encode(pixels[i]) == members[f"{key}.png"])
        assert members[f"{key}.txt"] == {7: b"x", 8: b"y"}[number]


def test_one_file_of_plain_columns(tmp_path):
    pixels = images(4)
    write(tmp_path / "birds.parquet", pixels, names=(), label=["owl", "wren", "owl", "owl"])
    index = make(tmp_path / "birds.parquet", tmp_path / "out")
    assert index.classes == ("owl", "wren")
    assert as_set(stored(tmp_path / "out")) == expected(pixels, [0, 1, 0, 0])
    assert make(tmp_path / "birds.parquet", tmp_path / "none", "--labels", "none").classes == ()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None], "the label of row 1 is missing"),
        ([0.0, 0.5], "the label of row 1 is 0.5"),
        ([0, 2], "a label is 2, but there are 2 classes"),
    ],
)
def test_labels_that_are_none(tmp_path, capsys, labels, message):
    write(tmp_path / "x.parquet", images(2), label=labels)
    assert message in refused(capsys, tmp_path / "x.parquet", tmp_path / "out")


def test_what_cannot_be_read(tmp_path, capsys):
    write(tmp_path / "x.parquet", images(2), label=[0, 1])
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    assert "cut.parquet cannot be read" in refused(capsys, tmp_path / "cut.parquet", tmp_path / "out")
    parquet.write_table(arrow.table({"a": [1], "b": [2]}), tmp_path / "numbers.parquet")
    assert "has no column of images, only a, b" in refused(capsys, tmp_path / "numbers.parquet", tmp_path / "out")
    parquet.write_table(arrow.table({"image": [{"bytes": None, "path": "a.png"}]}), tmp_path / "paths.parquet")
    assert "holds no image, only where one lies" in refused(capsys, tmp_path / "paths.parquet", tmp_path / "out")
    parquet.write_table(arrow.table({"image": [b"?", encode(images(1)[0])]}), tmp_path / "odd.parquet")
    assert "row 0 holds no PNG, JPEG or WebP" in refused(capsys, tmp_path / "odd.parquet", tmp_path / "out")
    index = make(tmp_path / "odd.parquet", tmp_path / "rest", "--skip-damaged")
    assert index.splits["train"].samples == 1


def test_tables_beside_images_are_no_data_set(tmp_path, capsys):
    """The images are what is meant, and the table is counted among what is passed over."""
    fill(tmp_path / "in", ["a.png", "b.png"], images(2))
    parquet.write_table(arrow.table({"image": np.zeros(3)}), tmp_path / "in" / "x.parquet")
    assert make(tmp_path / "in", tmp_path / "out").splits["train"].samples == 2
    assert "1 .parquet" in capsys.readouterr().out


def test_several_sets_in_one_folder(tmp_path, capsys):
    for name in ("one", "two"):
        write(tmp_path / name / "train.parquet", images(2), label=[0, 1])
    assert "in several folders: give one of them" in refused(capsys, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "label"),
    [(("dog", "cat"), [0, 1]), ((), None)],
    ids=["other order of the classes", "no labels"],
)
def test_files_of_one_set_that_differ_are_refused(tmp_path, capsys, names, label):
    """Else the columns of one file would give the labels of the other."""
    pixels = images(4)
    write(tmp_path / "in" / "train-00000-of-00002.parquet", pixels[:2], names=("cat", "dog"), label=[0, 1])
    more = {} if label is None else {"label": label}
    write(tmp_path / "in" / "train-00001-of-00002.parquet", pixels[2:], names=names, **more)
    line = refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "has other columns or classes than" in line


def test_a_part_that_is_missing_is_told(tmp_path, capsys):
    for number in (0, 2):
        write(tmp_path / "in" / f"train-0000{number}-of-00003.parquet", images(2), label=[0, 1])
    assert "lacks 1 of 3 files, such as train-00001-of-00003" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert make(tmp_path / "in" / "train-00002-of-00003.parquet", tmp_path / "one").splits["train"].samples == 2


@pytest.mark.parametrize("names", [("train_1", "test_1"), ("train.2017", "test.2017")])
def test_splits_by_any_name_do_not_mix(tmp_path, names):
    for name in names:
        write(tmp_path / "in" / f"{name}.parquet", images(2), label=[0, 1])
    assert set(make(tmp_path / "in", tmp_path / "out").splits) == {"train", "test"}
    write(tmp_path / "hub" / "test" / "0000.parquet", images(2), label=[0, 1])
    assert set(make(tmp_path / "hub", tmp_path / "own").splits) == {"test"}


def test_images_under_any_name_are_no_prompts(tmp_path):
    """What Hugging Face's library writes says which column holds the images."""
    pixels = images(2)
    table = arrow.table({"picture": [{"bytes": encode(image), "path": None} for image in pixels], "text": ["a", "b"]})
    features = {"picture": {"_type": "Image"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "x.parquet")
    index = make(tmp_path / "x.parquet", tmp_path / "out")
    assert index.image_size == (6, 6)
    assert as_set(stored(tmp_path / "out")) == expected(pixels, [0, 0])


def test_a_blank_caption_gives_way_to_the_next_column(tmp_path):
    write(tmp_path / "x.parquet", images(2), names=(), text=[" ", None], caption=["one", None])
    make(tmp_path / "x.parquet", tmp_path / "out", "--shuffle", "0")
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        texts = [archive.extractfile(member).read() for member in archive if member.name.endswith("txt")]
    assert texts == [b"one"]


@pytest.mark.parametrize("with_images", [True, False])
@pytest.mark.parametrize("text", [[1, 2], [["a"], ["b"]]])
def test_a_caption_that_is_no_text(tmp_path, capsys, text, with_images):
    if with_images:
        write(tmp_path / "x.parquet", images(2), names=(), text=text)
    else:
        parquet.write_table(arrow.table({"text": text}), tmp_path / "x.parquet")
    line = refused(capsys, tmp_path / "x.parquet", tmp_path / "out")
    assert f"x.parquet, row 0: its text is no text but {text[0]}" in line


def test_a_file_that_says_how_large_it_becomes_is_not_unpacked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("realuid.utils.budget.FREE", 1_000_000)
    monkeypatch.setattr("realuid.data.sources.parquet._bytes", None)  # a row would be counted by it
    parquet.write_table(arrow.table({"text": ["a" * 2_000_000]}), tmp_path / "x.parquet", compression="zstd")
    line = refused(capsys, tmp_path / "x.parquet", tmp_path / "out")
    assert "what it holds would take 2.0 MB" in line
