"""Tables of labels beside images, in all the forms that people write them in."""

import csv
import json
import tarfile
import zipfile

import pytest

from tests.data.making import as_set, expected, fill, images, make, refused, stored


@pytest.mark.parametrize("zipped", [False, True])
def test_edms_dataset_json(tmp_path, zipped):
    pixels, labels = images(5), [3, 0, 1, 3, 2]
    names = [f"00000/img{i:08d}.png" for i in range(5)]
    table = json.dumps({"labels": [list(row) for row in zip(names, labels, strict=True)]})
    fill(tmp_path / "in", names, pixels)
    (tmp_path / "in" / "dataset.json").write_text(table)
    source = tmp_path / "in"
    if zipped:
        source = tmp_path / "edm.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in sorted((tmp_path / "in").rglob("*.*")):
                archive.write(file, file.relative_to(tmp_path / "in"))
    index = make(source, tmp_path / "out")
    assert index.classes == ("0", "1", "2", "3")
    assert as_set(stored(tmp_path / "out")) == expected(pixels, labels)
    assert make(source, tmp_path / "none", "--labels", "none").classes == ()


def test_label_files(tmp_path, capsys):
    pixels, labels = images(3), [1, 0, 1]
    fill(tmp_path / "in", ["a.png", "b.png", "c.png"], pixels)
    table = dict(zip(["a.png", "b.png", "c.png"], labels, strict=True))
    (tmp_path / "labels.json").write_text(json.dumps(table))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table.items())
    for i, name in enumerate(("labels.json", "labels.csv")):
        make(tmp_path / "in", tmp_path / f"out{i}", "--labels", str(tmp_path / name))
        assert as_set(stored(tmp_path / f"out{i}")) == expected(pixels, labels)
    (tmp_path / "labels.json").write_text('{"a.png": 1}')
    line = refused(capsys, tmp_path / "in", tmp_path / "x", "--labels", str(tmp_path / "labels.json"))
    assert "no label for b.png and 1 others" in line
    assert "cannot be read" in refused(capsys, tmp_path / "in", tmp_path / "x", "--labels", "/nowhere.csv")


def test_numbers_that_would_be_rounded(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png", "b.png"], images(2))
    for labels, message in (
        ([0.9, 1], "the label of a.png is 0.9"),
        ([1, True], "the label of b.png is True"),
        ([1, -1], "the label of b.png is -1"),
        ([1, None], "the label of b.png is missing"),
        ([1, [0, 1]], "the label of b.png is [0, 1]"),
        ([1, "cat"], "some labels are words, that of a.png is the number 1"),
    ):
        table = {"labels": [["a.png", labels[0]], ["b.png", labels[1]]]}
        (tmp_path / "in" / "dataset.json").write_text(json.dumps(table))
        assert message in refused(capsys, tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "dataset.json").write_text('{"labels": [["a.png", 1.0], ["b.png", 0]]}')
    assert make(tmp_path / "in", tmp_path / "out").splits["train"].labels == (1, 1)


@pytest.mark.parametrize(
    "text",
    ['{"a.png": 0, "b.png": 1, "a.png": 1}', '{"labels": [["a.png", 0], ["b.png", 1], ["a.png", 1]]}'],
)
def test_labels_given_twice(tmp_path, capsys, text):
    fill(tmp_path / "in", ["a.png", "b.png"], images(2))
    (tmp_path / "in" / "dataset.json").write_text(text)
    line = refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "a.png" in line
    assert "twice" in line or "two labels" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"labels": [["a.png", 0]', "it is not JSON"),
        (b"[1, 2]", "it is neither {file: label}"),
        (b'{"labels": [["a.png"]]}', "it is neither {file: label}"),
        (b"\xff\xfe{", "no text in UTF-8"),
        (b"", "it is not JSON"),
    ],
)
def test_broken_tables(tmp_path, capsys, content, message):
    fill(tmp_path / "in", ["a.png"], images(1))
    (tmp_path / "in" / "dataset.json").write_bytes(content)
    assert message in refused(capsys, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [
        ("filename,label\na.png,dog\nsub/b.png,cat\nc.png,dog\n", ("cat", "dog"), [1, 1, 0]),
        ("id\tbreed\tclass\na\tx\t2\nb\ty\t0\nc\tz\t2\n", ("0", "1", "2"), [2, 2, 0]),  # names without endings
        ("\ufefffile_name;label\r\na.png;1\r\nb.png;0\r\nc.png;1\r\n", ("0", "1"), [1, 1, 0]),  # names without folders
        ("c.png,1.0\nsub/b.png,0.0\na.png,3.0\nd.png,9\n", ("0", "1", "2", "3"), [3, 1, 0]),
    ],
)
def test_tables_of_words_and_with_a_line_of_names(tmp_path, capsys, text, classes, labels):
    names = ["a.png", "c.png", "sub/b.png"]
    pixels = images(3)
    fill(tmp_path / "in", names, pixels)
    (tmp_path / "labels.csv").write_text(text)
    index = make(tmp_path / "in", tmp_path / "out", "--labels", str(tmp_path / "labels.csv"))
    assert index.classes == classes
    assert as_set(stored(tmp_path / "out")) == expected(pixels, labels)
    assert ("labels of 1 files that are not there" in capsys.readouterr().out) == ("d.png" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na.png,1,2\n", "line 2 has 3 columns, the first one 2"),
        ("a.png,1,2\n", "its first line names no columns"),
        ("a.png\n", "it has no two columns"),
        ("name,label\n\xe9.png,1\n", "no label for a.png"),
    ],
)
def test_tables_that_are_none(tmp_path, capsys, text, message):
    fill(tmp_path / "in", ["a.png"], images(1))
    (tmp_path / "labels.csv").write_text(text)
    assert message in refused(capsys, tmp_path / "in", tmp_path / "out", "--labels", str(tmp_path / "labels.csv"))


def test_captions_beside_images_and_in_metadata(tmp_path, capsys):
    """As they were found, whichever way; nobody's caption becomes another's."""
    fill(tmp_path / "beside", [f"{name}.png" for name in "abc"], images(3))
    (tmp_path / "beside" / "a.txt").write_text("a handwritten ä")
    (tmp_path / "beside" / "b.json").write_text('{"caption": "b"}')
    make(tmp_path / "beside", tmp_path / "one", "--shuffle", "1")
    assert "2 of 3 images have a caption" in capsys.readouterr().out
    assert members_by_image(tmp_path / "one", tmp_path / "beside") == {
        "a": {"txt": "a handwritten ä".encode()},
        "b": {"json": b'{"caption": "b"}'},
        "c": {},
    }
    fill(tmp_path / "hub", [f"{name}.png" for name in "abc"], images(3))
    rows = [
        {"file_name": "a.png", "text": "an a", "label": 1},
        {"file_name": "b.png", "text": "a b", "label": 0, "bbox": [1, 2]},
        {"file_name": "c.png", "text": "a c", "label": 1},
        {"file_name": "d.png", "text": "not there", "label": 5},
    ]
    (tmp_path / "hub" / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    index = make(tmp_path / "hub", tmp_path / "two")
    assert (index.classes, index.splits["train"].labels) == (("0", "1"), (1, 2))
    assert "names 1 files that are not there" in capsys.readouterr().out
    found = members_by_image(tmp_path / "two", tmp_path / "hub")
    assert {name: found[name]["txt"] for name in "abc"} == {"a": b"an a", "b": b"a b", "c": b"a c"}
    assert json.loads(found["b"]["json"]) == {"text": "a b", "label": 0, "bbox": [1, 2]}


def members_by_image(dest, source):
    """The members beside image and label, by the name of the file that the image came from."""
    names = {file.read_bytes(): file.stem for file in source.glob("*.png")}
    samples = {}
    with tarfile.open(dest / "train-000000.tar") as archive:
        for member in archive:
            key, _, kind = member.name.partition(".")
            samples.setdefault(key, {})[kind] = archive.extractfile(member).read()
    return {
        names[sample["png"]]: {kind: data for kind, data in sample.items() if kind not in ("png", "cls")}
        for sample in samples.values()
    }


def test_two_captions_of_one_image(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png"], images(1))
    (tmp_path / "in" / "a.txt").write_text("one")
    (tmp_path / "in" / "metadata.csv").write_text("file_name,text\na.png,another\n")
    assert "has a caption beside it, and one in" in refused(capsys, tmp_path / "in", tmp_path / "out")


def test_metadata_of_a_split_each(tmp_path, capsys):
    fill(tmp_path / "in", ["train/a.png", "train/b.png", "test/c.png"], images(3))
    (tmp_path / "in" / "train" / "metadata.csv").write_text("file_name,label\na.png,dog\nb.png,cat\n")
    (tmp_path / "in" / "test" / "metadata.csv").write_text("file_name,label\nc.png,dog\n")
    index = make(tmp_path / "in", tmp_path / "out")
    assert index.classes == ("cat", "dog")
    assert {name: split.labels for name, split in index.splits.items()} == {"train": (1, 1), "test": (0, 1)}
    (tmp_path / "in" / "test" / "metadata.csv").rename(tmp_path / "in" / "metadata.csv")
    assert "lies outside of the splits test, train" in refused(capsys, tmp_path / "in", tmp_path / "no")
