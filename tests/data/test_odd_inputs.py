"""What people have on their disks, and what `make_shards` makes of it: the right data set, or one line that says what
is wrong. None of it is passed over without a word."""

import gzip
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from realuid.commands.make_shards import main
from tests.data.handmade import encode, grey_members, tar

PNG = encode(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
JPEG = encode(np.zeros((8, 8, 3), np.uint8), "JPEG")
TAR = tar(grey_members(3))


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def table(text, **files):
    return {"a.png": PNG, "dataset.json": text, **files}


def deep(kind, channels):
    """A PNG of 16 bits a channel; Pillow writes grey ones alone."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\x12\x34" * (8 * channels) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def palette():
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "PNG", transparency=0)
    return file.getvalue()


def moving(form="PNG"):
    file = io.BytesIO()
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 200)]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def transparent(mode, colour):
    """A picture without alpha, one of whose colours counts as transparent."""
    file = io.BytesIO()
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(ramp).convert(mode).save(file, "PNG", transparency=colour)
    return file.getvalue()


def labelled(first):
    return tar([("a.png", PNG), ("a.cls", first), ("b.png", PNG), ("b.cls", b"0")])


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


# The files of a folder, or the one file that is the source; and words of the line.
REFUSED = {
    "complex numbers": ({"a.npy": npy(np.zeros((4, 8, 8), np.complex64))}, "but complex64 (4, 8, 8)"),
    "truths": ({"a.npy": npy(np.zeros((4, 8, 8), bool))}, "but bool (4, 8, 8)"),
    "no numbers": ({"a.npy": npy(np.full((4, 8, 8), np.nan, np.float32))}, "holds values that are not finite"),
    "an array without channels": ({"a.npy": npy(np.zeros((8, 8), np.float32))}, "no array [C, H, W]"),
    "an array of nothing": ({"a.npy": npy(np.zeros((4, 0, 8), np.float32))}, "but float32 (4, 0, 8)"),
    "a list for a table": (table(b"[1, 2]"), 'neither {file: label} nor {"labels"'),
    "a table in UTF-16": (table('{"labels": [["a.png", 0]]}'.encode("utf-16")), "no text in UTF-8"),
    "a label that is no number": (table(b'{"labels": [["a.png", NaN]]}'), "the label of a.png is nan"),
    "a label that is a truth": (table(b'{"labels": [["a.png", true]]}'), "the label of a.png is True"),
    "labels of other files": (table(b'{"labels": [["c.png", 0]]}'), "no label for a.png"),
    "16 bits, grey": ({"a.png": deep(0, 1)}, "more than 8 bits a channel"),
    "16 bits, colours": ({"a.png": deep(2, 3)}, "more than 8 bits a channel"),
    "16 bits, grey with alpha": ({"a.png": deep(4, 2)}, "more than 8 bits a channel"),
    "16 bits, colours with alpha": ({"a.png": deep(6, 4)}, "more than 8 bits a channel"),
    "a transparent palette": ({"a.png": palette()}, "make_shards --background"),
    "kinds that are not read alone": ({"a.gif": PNG, "b.bmp": PNG}, "1 .gif"),
    "something behind a tar": ({"x.tar": TAR + b"garbage" * 100}, "breaks off after 3 samples"),
    "an empty tar": ({"x.tar": b""}, "it is empty"),
    "a page called tar": ({"x.tar": b"<html>not found</html>" * 100}, "it is a web page"),
    "gzip called tar": ({"x.tar": gzip.compress(TAR)}, "it is compressed by gzip: it is to be called .tar.gz"),
    "gzip cut short": ({"x.tar.gz": gzip.compress(TAR)[:-30]}, "breaks off after 0 samples"),
    "a tar of nothing": ({"x.tar": bytes(10240)}, "its shards are empty"),
    "a label with a point": ({"x.tar": labelled(b"1.0")}, "sample a: its label is no whole number"),
    "a negative label": ({"x.tar": labelled(b"-1")}, "sample a: its label is no whole number"),
    "a word for a label": ({"x.tar": labelled(b"cat")}, "sample a: its label is no whole number"),
    "a moving picture": ({"a.png": moving()}, "an animation of 2 pictures; --skip-damaged leaves out"),
    "a caption in Latin 1": ({"a.png": PNG, "a.txt": "café".encode("latin-1")}, "a.png: its txt is no text in UTF-8"),
    "a label with an underscore": (
        table(b'{"labels": [["a.png", "1_0"], ["b.png", 1]]}', **{"b.png": PNG}),
        "are words",
    ),
    "a zip cut short": ({"x.zip": zipped({"a/cat/a.png": PNG})[:60]}, "no readable zip"),
    "classes with an accent in two spellings": (
        {"caf\u00e9/a.png": PNG, "cafe\u0301/a.png": PNG},
        r"the classes 'cafe\u0301' and 'caf\xe9' look alike",
    ),
    "classes with a blank more": ({"cat/a.png": PNG, "cat /a.png": PNG}, "'cat' and 'cat ' look alike"),
    "splits that spell a class in two ways": (
        {"train/caf\u00e9/a.png": PNG, "train/x/a.png": PNG, "val/cafe\u0301/a.png": PNG, "val/x/a.png": PNG},
        "look alike: give both the same name",
    ),
    "words with an accent in two spellings": (
        table('{"labels": [["a.png", "caf\u00e9"], ["b.png", "cafe\u0301"]]}'.encode(), **{"b.png": PNG}),
        "look alike: give both the same name",
    ),
    "words with blanks inside": (
        table(b'{"labels": [["a.png", "hot dog"], ["b.png", "hot  dog"]]}', **{"b.png": PNG}),
        "look alike: give both the same name",
    ),
    "a label of another script beside a number": (
        table('{"labels": [["a.png", "\u0663"], ["b.png", 1]]}'.encode(), **{"b.png": PNG}),
        "some labels are words",
    ),
    "latents of two types": (
        {"a.npy": npy(np.ones((4, 8, 8), np.float32)), "b.npy": npy(np.ones((4, 8, 8), np.float16))},
        "store all of them alike",
    ),
    "a label twice, in words": (
        table(b'{"labels": [["a.png", "cat"], ["a.png", "dog"]]}'),
        "gives a.png two labels",
    ),
    "a picture for a film in WebP": ({"a.webp": moving("WEBP")}, "an animation of 2 pictures"),
    "grey with a colour that is transparent": ({"a.png": transparent("L", 3)}, "it is transparent in places"),
    "colours of which one is transparent": ({"a.png": transparent("RGB", (3, 3, 3))}, "it is transparent in places"),
    "splits inside of classes": (
        {"cat/train/a.png": PNG, "cat/test/b.png": PNG, "dog/train/a.png": PNG},
        "cat/test/b.png lies in what looks like a split, inside of a class",
    ),
    "splits of a year beside a class": (
        {"train2017/a.png": PNG, "cat/b.png": PNG},
        "train2017, which look like splits",
    ),
    "an open quote in a table": (
        {"a.png": PNG, "b.png": PNG, "metadata.csv": b'file_name,text\na.png,"a cat\nb.png,a dog\n'},
        "metadata.csv cannot be read: unexpected end of data",
    ),
    "two tables of captions": (
        {
            "a.png": PNG,
            "metadata.jsonl": b'{"file_name": "a.png", "text": "x"}',
            "metadata.csv": b"file_name,label\na.png,3",
        },
        "holds metadata.jsonl and metadata.csv",
    ),
    "labels in two tables": (
        table(b'{"labels": [["a.png", 1]]}', **{"metadata.jsonl": b'{"file_name": "a.png", "label": 0}'}),
        "dataset.json and metadata.jsonl both hold labels",
    ),
    "labels in two tables, one a CSV": (
        table(b'{"labels": [["a.png", 1]]}', **{"metadata.csv": b"file_name,label\na.png,0"}),
        "dataset.json and metadata.csv both hold labels",
    ),
    "a file twice in a CSV": (
        {"a.png": PNG, "metadata.csv": b"file_name,text\na.png,x\na.png,y"},
        "metadata.csv names a.png twice",
    ),
    "a label twice, by two ways to a file": (
        table(b'{"labels": [["./x/b.png", 0], ["x/b.png", 1], ["a.png", 0]]}', **{"x/b.png": PNG}),
        "gives x/b.png two labels",
    ),
    "two columns of one name": (
        {"a.png": PNG, "metadata.csv": b"file_name,text,text\na.png,x,y\n"},
        "its first line names 'text' twice",
    ),
    "a label twice in one row": (
        {"a.png": PNG, "metadata.jsonl": b'{"file_name": "a.png", "label": 1, "label": 0}\n'},
        "'label' stands in it twice, with 1 and 0",
    ),
    "a broken text beside an image": ({"a.png": PNG, "a.json": b'{"caption": '}, "a.png: its json is not JSON"),
    "a broken text in a tar": ({"x.tar": tar([("a.png", PNG), ("a.json", b"<html>")])}, "its json is not JSON"),
    "a caption beside an image that is a list": (
        {"a.png": PNG, "a.json": b'{"text": ["x", "y"]}'},
        "its text is no text but ['x', 'y']",
    ),
    "labels that are lists": (table(b'{"labels": [["a.png", [0, 1]]]}'), "neither a whole number from 0 nor a word"),
}
# And of those that are taken: words of what is printed.
TAKEN = {
    "a mark before a table": (table(b'\xef\xbb\xbf{"labels": [["a.png", 0]]}'), "labels (1,)"),
    "a table without labels": (table(json.dumps({"labels": None}).encode()), "1 samples"),
    "splits in capitals": (
        {"Train/cat/a.png": PNG, "Train/dog/a.png": PNG, "Test/cat/b.png": PNG},
        "2 classes: cat, dog",
    ),
    "folders of file servers": (
        {"cat/a.png": PNG, "dog/b.png": PNG, "@eaDir/cat/a.png": PNG, ".git/x.png": PNG, "$RECYCLE.BIN/x.png": PNG},
        "3 files are passed over: 1 in @eaDir, 1 in .git, 1 in $RECYCLE.BIN",
    ),
    "folders of other servers": (
        {"cat/a.png": PNG, "dog/b.png": PNG, "@Recycle/a.png": PNG, "#snapshot/x.png": PNG, "$Recycle.Bin/x.png": PNG},
        "2 classes: cat, dog",
    ),
    "splits of a year": ({"train2017/a.png": PNG, "val2017/b.png": PNG}, "  val2017: 1 samples"),
    "splits that are called sets": (
        {"training_set/cat/a.png": PNG, "training_set/dog/a.png": PNG, "test_set/dog/b.png": PNG},
        "2 classes: cat, dog",
    ),
    "a class that begins like a split": ({"trains/a.png": PNG, "tests/b.png": PNG}, "2 classes: tests, trains"),
    "hidden folders in a tar": (
        {"x.tar": tar([("a.png", PNG), (".ipynb_checkpoints/a.png", PNG), ("@eaDir/a.png", PNG), ("./b.png", PNG)])},
        "train: 2 samples",
    ),
    "labels in json alone": (
        {"x.tar": tar([("a.png", PNG), ("a.json", b'{"label": 3}')])},
        "labels are read from members KEY.cls alone",
    ),
    "captions by the names of another system": (
        {"x/a.png": PNG, "metadata.jsonl": b'{"file_name": ".\\\\x\\\\a.png", "text": "hi"}'},
        "1 of 1 images have a caption",
    ),
    "classes of unequal depth": ({"cat/a.png": PNG, "dog/poodle/b.png": PNG}, "2 classes: cat, dog"),
    "classes that differ in capitals": ({"Cat/a.png": PNG, "cat/a.png": PNG}, "2 classes: Cat, cat"),
    "another ending": ({"a.png": JPEG}, "1 samples"),
    "one stem and two endings": ({"a.png": PNG, "a.jpg": JPEG}, "2 samples"),
    "a label with a blank": ({"x.tar": labelled(b" 1\n")}, "2 classes: 0, 1"),
    "two tars in a row": (
        {"x.tar": TAR + tar([("b.png", encode(np.zeros((4, 4), np.uint8))), ("b.cls", b"1")])},
        "4 s",
    ),
    "a zip in two folders": (
        {"x.zip": zipped({"x/y/cat/a.png": PNG, "x/y/dog/a.png": PNG})},
        "2 classes: cat, dog",
    ),
    "a zip of a Mac": (
        {"x.zip": zipped({"cat/a.png": PNG, "dog/a.png": PNG, "__MACOSX/cat/._a.png": b"x"})},
        "over: 1 in __MACOSX",
    ),
    "something around the folder of all": (
        {"photos/a.png": PNG, "photos/b.png": PNG, "more.zip": b"x", "notes.txt": b"x", ".hidden": b"x"},
        "3 files are passed over: 1 hidden, 1 .zip, 1 .txt",
    ),
    "something around splits": (
        {"x/train/a.png": PNG, "x/test/b.png": PNG, "x/more.zip": b"x", "y.rar": b"x"},
        "2 files are passed over: 1 .rar, 1 .zip",
    ),
    "labels in texts beside images": (
        {"a.png": PNG, "a.json": b'{"label": 3}', "b.png": PNG, "b.json": b'{"label": 1}'},
        "labels are read from tables and folders; those in NAME.json are not read",
    ),
    "rows with a number and a path": (
        {"1.png": PNG, "2.png": PNG, "metadata.csv": b"id,path,label\n0,1.png,1\n1,2.png,1\n2,3.png,0\n"},
        "labels (0, 2)",
    ),
    "rows that end as on old Macs": (
        {"a.png": PNG, "b.png": PNG, "metadata.csv": b"file_name,label\ra.png,0\rb.png,1\r"},
        "2 classes: 0, 1",
    ),
    "JSON lines that end as on old Macs": (
        {
            "a.png": PNG,
            "b.png": PNG,
            "metadata.jsonl": b'{"file_name": "a.png", "label": 0}\r{"file_name": "b.png", "label": 1}\r',
        },
        "2 classes: 0, 1",
    ),
    "rows of which one has a caption": (
        {
            "a.png": PNG,
            "b.png": PNG,
            "metadata.jsonl": b'{"file_name": "a.png", "id": 7, "text": null}\n{"file_name": "b.png", "text": "b"}',
        },
        "1 of 2 images have a caption",
    ),
    "labels from one": (
        table(b'{"labels": [["a.png", 1], ["b.png", 3]]}', **{"b.png": PNG}),
        "2 of 4 classes have no image, the first of them 0",
    ),
    "a zip with a table of its own": ({"x.zip": zipped({"a.png": PNG, "labels.csv": b"a.png,1"})}, "over: 1 .csv"),
}


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))


def source(files, folder):
    """Writes the files; the one that is a source by itself, or their folder."""
    for name, content in files.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    alone = next(iter(files))
    return f"in/{alone}" if alone.startswith("x.") else "in"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path, capsys):
    files, words = REFUSED[name]
    assert main([source(files, tmp_path), "out", "--quiet"]) == 2
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out" / "index.json").exists()


@pytest.mark.parametrize("name", TAKEN)
def test_taken_as_it_is_meant(name, tmp_path, capsys):
    files, words = TAKEN[name]
    assert main([source(files, tmp_path), "out", "--quiet"]) == 0
    assert words in capsys.readouterr().out


def test_what_is_left_out_is_counted(tmp_path, capsys):
    """Damaged pictures, and such as move, if the user says so."""
    files = {"a.png": PNG, "b.png": b"x", "c.png": moving()}
    assert main([source(files, tmp_path), "out", "--quiet", "--skip-damaged"]) == 0
    told = capsys.readouterr()
    assert "2 samples are left out, and listed in out/damaged.txt" in told.err
    assert "1 samples" in told.out
    assert len((tmp_path / "out" / "damaged.txt").read_text().splitlines()) == 2
