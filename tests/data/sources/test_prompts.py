"""Prompts alone: which lines and rows are prompts, and what is told of the others."""

import json

import pytest

from realuid.data.sources import open_source
from realuid.utils.errors import DataError
from tests.data.making import fill, images, make, refused


def prompts(path, labels="auto"):
    (source,) = open_source(str(path), labels).values()
    return [source.read(number).extras["txt"].decode() for number in range(len(source))], source.notes


@pytest.mark.parametrize("char", ["\u2028", "\x0c", "\x85", "\x1c"])
def test_only_line_feeds_end_lines(tmp_path, char):
    texts = [f"a{char}b", "c"]
    (tmp_path / "x.txt").write_text("\n".join([*texts, "", ""]), encoding="utf-8")
    assert prompts(tmp_path / "x.txt")[0] == texts
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "x.jsonl").write_text("\n".join(rows) if char != "\x0c" else '{"text": "a"}\n\x0c\n', encoding="utf-8")
    if char in "\u2028\x85":  # the others may not stand in JSON as they are
        assert prompts(tmp_path / "x.jsonl")[0] == texts


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("txt", ["a cat", "a dog"]),
        ("jsonl", ['{"text": "a cat"}', '{"text": "a dog"}']),
        ("csv", ["text", "a cat", "a dog"]),
    ],
)
def test_carriage_returns_end_lines_where_nothing_else_does(tmp_path, kind, lines):
    (tmp_path / f"x.{kind}").write_bytes("\r".join([*lines, ""]).encode())
    assert prompts(tmp_path / f"x.{kind}")[0] == ["a cat", "a dog"]


def test_metadata_of_images_is_split_at_line_feeds_alone(tmp_path, capsys):
    fill(tmp_path / "in", ["a.png"], images(1))
    row = json.dumps({"file_name": "a.png", "text": "one\u2028two"}, ensure_ascii=False)
    (tmp_path / "in" / "metadata.jsonl").write_text(row, encoding="utf-8")
    make(tmp_path / "in", tmp_path / "out")
    assert "1 of 1 images have a caption" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_blank_captions_give_way_to_others_or_are_counted(tmp_path, kind):
    rows = [("", "real"), ("one", ""), (" ", None), (None, None)]
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text, "caption": other}) + "\n" for text, other in rows))
    elif kind == "csv":
        path.write_text("text,caption\n" + "".join(f"{text or ''},{other or ''}\n" for text, other in rows))
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        text, caption = zip(*rows, strict=True)
        parquet.write_table(arrow.table({"text": text, "caption": caption}), path)
    found, notes = prompts(path)
    assert found == ["real", "one"]
    assert notes == (f"{path}: 2 prompts without images, 2 without a text are left out",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": ["a", "b"]}', "line 2: its text is no text but ['a', 'b']"),
        ('{"prompt": 7}', "line 2: its prompt is no text but 7"),
        ('{"text": "\\ud800"}', r"line 2: its text cannot be written in UTF-8: '\ud800'"),
        ('{"n": 1}', "line 2 has no text, caption"),
    ],
)
def test_a_row_without_a_text_is_named(tmp_path, row, message):
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n' + row)
    with pytest.raises(DataError) as error:
        open_source(str(tmp_path / "x.jsonl"))
    assert message in str(error.value)
    assert "x.jsonl" in str(error.value)


def test_a_folder_of_texts_takes_no_table_of_labels(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("one", encoding="utf-8-sig")
    (tmp_path / "labels.csv").write_text("a.txt,1\n")
    assert prompts(tmp_path / "in")[0] == ["one"]
    line = refused(capsys, tmp_path / "in", tmp_path / "out", "--labels", str(tmp_path / "labels.csv"))
    assert "prompts without images, which have no labels" in line


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    from realuid.data.sources import trees

    fill(tmp_path, ["a.png"], images(1))
    walked, seen = trees._walked, []
    monkeypatch.setattr(trees, "_walked", lambda *args: seen.append(args) or walked(*args))
    open_source(str(tmp_path))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "message"), [(5, "its text is no text but 5"), ("\ud800", "cannot be written in UTF-8")]
)
def test_a_caption_of_an_image_that_is_none_is_damaged(tmp_path, capsys, text, message):
    fill(tmp_path / "in", ["a.png", "b.png"], images(2))
    rows = [{"file_name": "a.png", "text": text}, {"file_name": "b.png", "text": "b"}]
    (tmp_path / "in" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "a.png: its " in line
    assert message in line
    assert make(tmp_path / "in", tmp_path / "rest", "--skip-damaged").splits["train"].samples == 1


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_one_column_is_enough(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    texts = ["red, or blue", "green; dim"] if kind == "tsv" else ["red", "green; dim"]
    path.write_text("\n".join(["prompt", *texts, ""]))
    assert prompts(path)[0] == texts


def test_a_comma_without_quotes_is_told(tmp_path):
    """The rest of such a caption would be lost."""
    (tmp_path / "x.csv").write_text('caption\n\n"a cube, red"\na ball, green\n')
    with pytest.raises(DataError, match=r"x\.csv cannot be read: line 4 has 2 columns, the first one 1"):
        open_source(str(tmp_path / "x.csv"))
