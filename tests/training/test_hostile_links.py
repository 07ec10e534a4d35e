"""A run folder that came from elsewhere may hold symbolic links: none that leads out of it is followed."""

import argparse
import os

import pytest

from realuid.commands.evaluate import main as evaluate
from realuid.jobs.runs import reopen
from realuid.reports.report import write_report
from realuid.training.run_folder import RunFolder
from realuid.utils.atomic import write_atomically
from realuid.utils.errors import RunError

PLACES = [
    ".lock",
    "metrics.jsonl",
    "config.gin",
    "summary.json",
    "exit.json",
    "samples/student.png",
    "samples/step_00000001.png",
    "checkpoints/best.pt.part",
    "checkpoints/step_00000001.json",
]


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "home" / "secret"
    path.parent.mkdir()
    path.write_text("what nobody shall read or cut")
    return path


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "config.gin").write_text("Adam.lr = 1e-3\n")
    return folder


def entered(run):
    with RunFolder(run).locked():
        pass


def opened(run):
    (run / "checkpoints" / "step_00000002.json").write_text('{"state": "step_00000002.pt", "files": {}}')
    options = {"model": None, "run": str(run), "gin": None, "checkpoint": None, "allow_import": [], "ema": None}
    reopen(argparse.Namespace(**options))


@pytest.mark.parametrize("use", [entered, write_report, opened], ids=["train", "report", "sample"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_out_of_the_folder_is_refused(use, place, relative, run, secret):
    link = run / place
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(secret, link.parent) if relative else secret)
    with pytest.raises(RunError, match="symbolic link out of the folder") as refusal:
        use(run)
    assert place in str(refusal.value)
    assert secret.read_text() == "what nobody shall read or cut"
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("place", ["samples", "checkpoints"])
def test_a_folder_that_is_a_link_is_refused(place, run, secret):
    (run / place).rmdir()
    (run / place).symlink_to(secret.parent)
    with pytest.raises(RunError, match=f"{place} is a symbolic link out of the folder"):
        entered(run)
    assert os.listdir(secret.parent) == ["secret"]


def test_following_a_run_looks_too(run, secret, capsys):
    (run / "evaluations.jsonl").symlink_to(secret)
    assert evaluate(["--run", str(run), "--watch", "1"]) == 2
    assert "evaluations.jsonl is a symbolic link out of the folder" in capsys.readouterr().err
    assert secret.read_text() == "what nobody shall read or cut"


def test_links_within_the_folder_and_to_it_are_fine_but_never_a_lock(run, tmp_path):
    (run / "latest.png").symlink_to("samples/student.png")
    (tmp_path / "here").symlink_to(run)
    entered(run)
    entered(tmp_path / "here")
    (run / ".lock").unlink()
    (run / ".lock").symlink_to("config.gin")
    with pytest.raises(RunError, match=r"\.lock cannot be opened"):
        entered(run)
    assert (run / "config.gin").read_text() == "Adam.lr = 1e-3\n"
    (run / ".lock").unlink()
    (run / "circle").symlink_to("circle")
    with pytest.raises(RunError, match="circle is a symbolic link"):
        entered(run)


def test_a_written_file_replaces_a_link_and_its_temporary_name_is_nobodys(run, secret):
    (run / "summary.json").symlink_to(secret)
    for number in range(os.getpid() - 2, os.getpid() + 3):
        (run / f".summary.json.{number}.tmp").symlink_to(secret)
    write_atomically(run / "summary.json", lambda part: part.write_text("{}"))
    assert (run / "summary.json").read_text() == "{}"
    assert not (run / "summary.json").is_symlink()
    assert secret.read_text() == "what nobody shall read or cut"
