"""What is measured once, and what a run folder says of its start."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from realuid.commands.train import main
from realuid.jobs.started import record_start
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from realuid.utils.commit import commit_of, commit_of_code
from tests.commands.conftest import tiny

AGAIN = "the teacher was measured before"
ANEW = "evaluating the teacher"


@pytest.mark.slow
def test_a_blind_teacher_is_measured_once_for_all_its_students(tmp_path, capsys):
    """Its own run measures it beside its own data; every student, beside the whole."""
    blind = ["InMemory.path = 'digits'", "blind/InMemory.path = 'digits'", "blind/InMemory.shape = (1, 8, 8)"]
    blind += [
        "blind/InMemory.classes = 10",
        "blind/InMemory.only = (0, 1, 2)",
        "teacher/Trainer.data = @blind/InMemory()",
    ]
    blind += ["teacher/Trainer.seed = 0", "Trainer.evaluate_images = None"]
    said, summaries = [], []
    for number, more in enumerate(
        [["Trainer.seed = 1"], ["Trainer.seed = 2"], ["Euler.steps = 3", "Trainer.seed = 1"]]
    ):
        out = tmp_path / str(number)
        assert main([*tiny(*blind, *more), "--out", str(out)]) == 0
        said.append(capsys.readouterr().err.partition(f"{out}: ")[2])  # of the student's run alone
        summaries.append(json.loads((out / "summary.json").read_text()))
    assert [ANEW in text for text in said] == [True, False, True]
    assert [AGAIN in text for text in said] == [False, True, False]
    first, second, other = ({n: v for n, v in one.items() if n.startswith("teacher_")} for one in summaries)
    assert first == second != other
    provenances = [one["provenance"]["teacher_frechet"] for one in summaries]
    assert provenances[0] == provenances[1]
    assert provenances[0]["model"] != provenances[2]["model"]


def test_a_run_says_how_it_was_started_and_whose_student_it_trains(finished):
    start = json.loads((finished / "run.json").read_text())
    assert set(start) == {
        "begun",
        "started",
        "command",
        "commit",
        "device",
        "versions",
        "teacher",
        "teacher_run",
    }
    assert start["command"].startswith("realuid train --gin ")
    assert f"torch {torch.__version__}" in start["versions"]
    assert (finished / start["teacher_run"] / "summary.json").is_file()
    page = (finished / "report.html").read_text()
    assert f'href="{start["teacher_run"]}/report.html"' in page
    assert start["device"] in page


def test_a_run_that_is_resumed_keeps_when_it_was_begun(tmp_path):
    folder, world = RunFolder(tmp_path), World(torch.device("cpu"))
    folder.write_json(folder.start, {"begun": "2020-01-01T00:00:00+00:00", "command": "old"})
    record_start(folder, world, ["--gin", "a b.gin"])
    assert folder.read_json(folder.start)["begun"] > "2026", "nothing of the old run is left"
    folder.write_json(folder.start, {"begun": "2020-01-01T00:00:00+00:00"})
    folder.store.save(3, {})
    record_start(folder, world, ["--gin", "a b.gin"])
    start = folder.read_json(folder.start)
    assert start["begun"] == "2020-01-01T00:00:00+00:00" < start["started"]
    assert start["command"] == "realuid train --gin 'a b.gin'"


def test_a_commit_is_that_of_the_code_and_marked_where_the_code_differs(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    assert commit_of(tmp_path) == "unknown"
    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "a")
    clean = commit_of(tmp_path)
    assert len(clean) == 9
    (tmp_path / "code.py").write_text("2")
    assert commit_of(tmp_path) == f"{clean}+"
    (tmp_path / "sub").mkdir()
    assert commit_of(tmp_path / "sub", but=tmp_path / "sub") == f"{clean}+"
    assert commit_of_code()[:9] == commit_of(Path(__file__).parent)[:9]


@pytest.mark.parametrize("missing", ["config.gin", None])
def test_a_lone_checkpoint_has_no_run_to_link(tmp_path, missing):
    from realuid.jobs.started import record_teacher

    made_by, folder = tmp_path / "teacher", RunFolder(tmp_path / "run")
    (made_by / "checkpoints").mkdir(parents=True)
    if missing is None:
        (made_by / "config.gin").write_text("")
    record_teacher(folder, str(made_by / "checkpoints" / "step_1.pt"))
    start = folder.read_json(folder.start)
    assert start["teacher"].endswith("step_1.pt")
    assert ("teacher_run" in start) is (missing is None)
