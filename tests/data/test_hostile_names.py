"""Names that a file system allows and an index cannot hold: told at once, before any work."""

import json
import os
import zipfile

import numpy as np
import pytest

from realuid.commands.make_shards import main
from tests.data.handmade import encode, tar

NAMES = {"latin-1": b"caf\xe9", "utf-16": "th\u00e9".encode("utf-16"), "a line": b"tea\nfor two", "a bell": b"bell\x07"}


@pytest.mark.parametrize("name", NAMES)
def test_class_folders(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in (NAMES[name].replace(b"\0", b""), b"tea"):
        os.makedirs(b"images/" + folder)
        with open(b"images/" + folder + b"/a.png", "wb") as file:
            file.write(encode(np.zeros((4, 4), np.uint8)))
    assert main(["images", "out"]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert "cannot be the name of a class" in message
    assert not os.path.exists("out")
    assert main(["images", "out", "--labels", "none"]) == 0


def test_other_languages_are_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("café", "茶"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "a.png").write_bytes(encode(np.zeros((4, 4), np.uint8)))
    assert main(["images", "out"]) == 0


HOSTILE = "a\n\x1b[31mb"
"""Would end the line, and turn what follows red."""


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "table"])
def test_names_do_not_reach_the_terminal_as_they_are(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    broken = b"no picture"
    if kind == "zip":
        with zipfile.ZipFile("in.zip", "w") as archive:
            archive.writestr(f"{HOSTILE}.png", broken)
    elif kind == "tar":
        (tmp_path / "in.tar").write_bytes(tar([(f"{HOSTILE}.png", broken)]))
    else:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / (f"{HOSTILE}.png" if kind == "folder" else "a.png")).write_bytes(broken)
    if kind == "table":
        (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": [[HOSTILE, 0.5]]}))
    assert main(["in" if kind in ("folder", "table") else f"in.{kind}", "out", "--quiet"]) == 2
    line = capsys.readouterr().err.rstrip("\n")
    assert "a\\n\\x1b[31mb" in line
    assert line.isprintable()
    if kind != "table":
        assert (tmp_path / "out" / "damaged.txt").read_text().count("\n") == 1


def test_notes_do_not_either(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("in.zip", "w") as archive:
        archive.writestr(f"{HOSTILE}/a.png", encode(np.zeros((4, 4), np.uint8)))
        archive.writestr(f"{HOSTILE}/a.{HOSTILE}", b"?")
    assert main(["in.zip", "out", "--quiet"]) == 0
    assert "\x1b" not in capsys.readouterr().out
