"""study.py on a table of tiny runs."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realuid.commands.study import main as study
from realuid.config import ConfigError
from realuid.data.memory import InMemory
from realuid.jobs.study_run import Run
from realuid.reports.study import Plan
from realuid.utils.commit import commit_of
from tests.commands.conftest import ROOT, TINY
from tests.data.handmade import numbered_set

HEAD = f"""
gin = ["{ROOT}/gin/smoke.gin"]
bind = {json.dumps([*TINY, "teacher/Trainer.seed = 0", "Trainer.threads = 1"])}
"""
ROWS = """
seeds = [0, 1]
baseline = "UID"
metrics = ["student_frechet", "student_label_accuracy"]

[[row]]
name = "UID"
bind = ["RealUID.alpha = 1.0", "RealUID.beta = 1.0"]

[[row]]
name = "Real, 0.92"
seeds = [0]
"""


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def table(tmp_path, text=ROWS):
    path = tmp_path / "tiny.toml"
    path.write_text(HEAD + text)
    return str(path)


@pytest.mark.slow
def test_a_study_is_run_resumed_and_written_up(tmp_path, capsys):
    options = [table(tmp_path), "--out", "runs", "--docs", "docs/study"]
    docs = tmp_path / "docs" / "study"
    assert study([*options, "--only", "UID", "--seeds", "1"]) == 0
    assert [path.name for path in (docs / "tiny").glob("*.json")] == ["uid-1.json"]
    assert study([*options, "--only", "UID"]) == 0
    first = (docs / "tiny" / "uid-0.json").stat().st_mtime_ns
    assert study(options) == 0
    assert (docs / "tiny" / "uid-0.json").stat().st_mtime_ns == first, "a run that was there was made again"
    record = json.loads((docs / "tiny" / "real-0.92-0.json").read_text())
    assert record["study"]["row"] == "Real, 0.92"
    assert "--bind 'Trainer.seed = 0'" in record["study"]["command"]
    assert record["provenance"]["student_frechet"]["count"] == 60
    assert [point[0] for point in record["curve"]] == [64, 128]
    text = (docs / "tiny.md").read_text()
    assert "| UID | 2 of 2 |" in text
    assert "| Real, 0.92 | 1 of 1 |" in text
    assert (docs / "tiny-images.svg").exists()
    assert (docs / "tiny" / "uid.png").exists()
    assert len(list((tmp_path / "runs").glob("*_teacher-*"))) == 1, "the teacher was trained for every seed"


@pytest.mark.slow
def test_a_failed_run_is_told_and_the_others_go_on(tmp_path, capsys):
    text = 'seeds = [0]\n[[row]]\nname = "bad"\nbind = ["Trainer.device = \'cuda:77\'"]\n'
    assert study([table(tmp_path, text), "--docs", "docs"]) == 1
    assert "bad, seed 0 failed with status 2: train.py: Trainer.device = 'cuda:77'" in capsys.readouterr().err
    assert "| bad | 0 of 1 |" in (tmp_path / "docs" / "tiny.md").read_text()


@pytest.mark.slow
def test_a_row_that_goes_on_from_another_is_run_after_it(tmp_path, capsys):
    """With two jobs, and its seeds in another order; the checkpoint that it starts from is that of its own seed."""
    text = """
        seeds = [0, 1]
        [[row]]
        name = "first"
        [[row]]
        name = "second"
        after = "first"
        seeds = [1, 0]
        bind = ["Distillation.student_init = '{after}/checkpoints/step_00000008.pt'"]
    """
    options = [table(tmp_path, text), "--docs", "docs"]
    assert study([*options, "--only", "second", "--jobs", "2"]) == 0
    assert "first, seed 1 is made for second, seed 1" in capsys.readouterr().err
    for seed in (0, 1):
        record = json.loads((tmp_path / "docs" / "tiny" / f"second-{seed}.json").read_text())
        (folder,) = (tmp_path / "runs").glob(f"tiny-first-{seed}-*")
        assert f"runs/{folder.name}/checkpoints" in record["study"]["command"]
    (folder,) = (tmp_path / "runs").glob("tiny-first-0-*")
    shutil.rmtree(folder)  # records are committed, run folders are not
    (tmp_path / "docs" / "tiny" / "second-0.json").unlink()
    assert study([*options, "--only", "second", "--seeds", "0"]) == 0
    assert (tmp_path / "docs" / "tiny" / "second-0.json").exists()


@pytest.mark.slow
def test_a_study_that_is_terminated_stops_its_run_which_saves_what_it_has(tmp_path):
    text = 'seeds = [0]\n[[row]]\nname = "long"\nbind = ["Trainer.images = 1_000_000", "CosineLR.images = 1_000_000"]\n'
    command = [sys.executable, str(ROOT / "tools" / "study.py"), table(tmp_path, text), "--docs", "docs"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        runs = tmp_path / "runs"
        try:
            wait_for(lambda: list(runs.glob("tiny-long-*/metrics.jsonl")))
        finally:
            process.terminate()
        assert process.wait(120) == 143
    (folder,) = runs.glob("tiny-long-*")
    assert json.loads((folder / "exit.json").read_text())["code"] == 143
    assert list(folder.glob("checkpoints/step_*.pt"))
    assert not list((tmp_path / "docs").rglob("*.json"))


@pytest.mark.exhaustive
def test_tables_that_cannot_be_written_stop_no_run(tmp_path, capsys):
    """Two rows that were not measured alike are refused, but only once both are there."""
    text = """
        seeds = [0]
        [[row]]
        name = "a"
        [[row]]
        name = "b"
        bind = ["Evaluator.count = 50"]
        [[row]]
        name = "c"
    """
    assert study([table(tmp_path, text), "--docs", "docs"]) == 2
    assert {path.name for path in (tmp_path / "docs" / "tiny").glob("*.json")} == {"a-0.json", "b-0.json", "c-0.json"}
    assert "were not measured alike" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "has no row"),
        ("[[row]]\n", "row 1 has no name"),
        ("sedes = [1]\n[[row]]\nname = 'a'\n", "the table has no 'sedes'"),
        ("[[row]]\nname = 'a'\nbeta = 1\n", "row 1 has no 'beta'"),
        ("[[row]]\nname = 'a b'\n[[row]]\nname = 'A-b'\n", "is not one of its own"),
        ("baseline = 'b'\n[[row]]\nname = 'a'\n", "the baseline 'b' is no row"),
        ("curves = ['b']\n[[row]]\nname = 'a'\n", "the curve 'b' is no row"),
        ("[[row]]\nname = 'a'\nbind = ['Trainer.sede = 1']\n", "sede"),
        ("[[row]\n", "tiny.toml: "),
        ("[[row]]\nname = 'b'\nafter = 'a'\n[[row]]\nname = 'a'\n", "b goes on after 'a', which is no row above it"),
        ("[[row]]\nname = 'a'\nseeds = [0, 1]\n[[row]]\nname = 'b'\nafter = 'a'\nseeds = [1, 2]\n", "with seed 2"),
        ("seeds = 3\n[[row]]\nname = 'a'\n", "seeds of the table is to be whole numbers from 0 in a list"),
        ("seeds = []\n[[row]]\nname = 'a'\n", "seeds of the table is to be whole numbers"),
        (
            "[[row]]\nname = 'a'\nseeds = [0, 0]\n",
            "seeds of row 1 is to be whole numbers",
        ),
        ("seeds = [true]\n[[row]]\nname = 'a'\n", "seeds of the table"),
        ("[[row]]\nname = 'a'\nbind = 'RealUID.alpha = 1.0'\n", "bind of row 1 is to be texts in a list"),
        ("metrics = 'student_frechet'\n[[row]]\nname = 'a'\n", "metrics of the table is to be names in a list"),
        ("metrics = []\n[[row]]\nname = 'a'\n", "metrics of the table"),
        ("baseline = 3\n[[row]]\nname = 'a'\n", "baseline of the table is to be a name, or names in a list, not 3"),
        ("[[row]]\nname = 3\n", "name of row 1 is to be a name, not 3"),
        ("[row]\nname = 'a'\n", "row of the table is to be written as [[row]]"),
        ("row = 3\n", "row of the table is to be written as [[row]], not 3"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(text, word, tmp_path, capsys):
    assert study([table(tmp_path, text)]) == 2
    message = capsys.readouterr().err.strip()
    assert word in message
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_row_that_is_not_asked_for_is_not_read(tmp_path, monkeypatch):
    """A table has hundreds of runs; to read each of their configurations takes longer than a small run."""
    read = []

    def refuse(gin, bind):
        read.append(bind)
        raise ConfigError("not this one")

    monkeypatch.setattr("realuid.jobs.study_run.configuration.load", refuse)
    assert study([table(tmp_path), "--out", "runs", "--docs", "docs", "--only", "Real, 0.92"]) == 2
    assert [bind[-1] for bind in read] == ["Trainer.seed = 0"]
    assert study([table(tmp_path), "--out", "runs", "--docs", "docs", "--tables"]) == 0
    assert len(read) == 1


def test_a_studys_own_records_do_not_mark_its_commit(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)

    assert commit_of(Path.cwd(), tmp_path / "docs") == "unknown"
    git("init")
    docs = tmp_path / "docs" / "study"
    docs.mkdir(parents=True)
    for path in (docs / "a.json", tmp_path / "code.py"):
        path.write_text("1")
    git("add", ".")
    git("commit", "-m", "a")
    (docs / "a.json").write_text("2")
    clean = commit_of(Path.cwd(), Path("docs/study"))
    assert len(clean) == 9
    assert commit_of(Path.cwd(), tmp_path.parent) == clean + "+", "a folder elsewhere excuses nothing"
    (tmp_path / "code.py").write_text("2")
    assert commit_of(Path.cwd(), Path("docs/study")) == clean + "+"


def test_a_table_in_another_encoding(tmp_path, capsys):
    """A mark in front of UTF-8 is none."""
    path = tmp_path / "tiny.toml"
    path.write_text("# caf\xe9\n" + HEAD + ROWS, encoding="latin-1")
    assert study([str(path)]) == 2
    assert "tiny.toml is no text in UTF-8" in capsys.readouterr().err
    path.write_text(HEAD + ROWS, encoding="utf-8-sig")
    assert study([str(path), "--tables", "--docs", "docs"]) == 0
    (tmp_path / "page.md").write_bytes(b"\xff")
    assert study([str(path), "--fill", "page.md"]) == 2
    assert "page.md is no text in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--seeds", "99"], "--seeds 99: no row that is meant has such a seed"),
        (["--docs", "notes.txt"], "--docs notes.txt is a file"),
        (["--docs", "/proc/x"], "--docs /proc/x cannot be written"),
        (["--out", "notes.txt/x"], "--out notes.txt/x cannot be made"),
    ],
)
def test_options_that_would_fail_after_the_first_run(options, word, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert study([table(tmp_path), *options]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("damage", ["3", '{"digest": 3}', "{}"])
def test_a_damaged_record_is_none(damage, tmp_path):
    place = tmp_path / "docs" / "tiny" / "uid-0.json"
    place.parent.mkdir(parents=True)
    place.write_text(f'{{"study": {damage}}}')
    assert study([table(tmp_path), "--tables", "--docs", "docs"]) == 0
    assert "| UID | 0 of 2 |" in (tmp_path / "docs" / "tiny.md").read_text()


def test_a_record_of_other_images_is_not_taken_for_the_runs(tmp_path, capsys):
    """A data set that was replaced at its place; one that is gone takes no record away."""
    place = tmp_path / "mine"
    numbered_set(place, [6, 4])
    text = f"""
        seeds = [0]
        [[row]]
        name = "a"
        bind = ["DATA = '{place}'", "SHAPE = (1, 2, 2)", "CLASSES = 3"]
    """
    row = Plan.read(Path(table(tmp_path, text))).rows[0]
    run = Run("tiny", row, 0, Path("runs"), Path("docs"))
    held = InMemory(path=str(place), shape=(1, 2, 2), classes=3).stated_checksum()
    state = {"digest": run.digest, "command": "c", "commit": "0"}
    run.record.parent.mkdir(parents=True)
    run.record.write_text(json.dumps({"data_sha256": held, "study": state}))
    options = [table(tmp_path, text), "--docs", "docs"]
    assert study(options) == 0, "the run is not made again"
    shutil.rmtree(place)
    assert study(options) == 0
    numbered_set(place, [7, 4])
    assert study(options) == 2
    assert "docs/tiny/a-0.json is of other images than its data set holds now" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_missing_table(capsys):
    assert study(["nowhere.toml"]) == 2
    assert "there is no table nowhere.toml" in capsys.readouterr().err
