"""A run of version 0.1 with its teacher, by the names and keys of then: it is sampled, evaluated and resumed."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from realuid.checkpoints import CheckpointStore
from realuid.commands.evaluate import main as evaluate
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train
from tests.commands.conftest import tiny
from tests.commands.test_train import lines, same, weights

BINDINGS = {"CosineLR": "CosineRate", "Adam.lr_schedule": "Adam.rate", "Trainer.method": "Trainer.procedure"}
"""Names that occur in the configuration: now, and in 0.1."""


def named_as_then(text: str) -> str:
    for now, then in BINDINGS.items():
        assert now in text
        text = text.replace(now, then)
    return text


def written_as_then(folder: Path) -> None:
    """The folder's configuration and checkpoints with the names and keys of 0.1."""
    (folder / "config.gin").write_text(named_as_then((folder / "config.gin").read_text()))
    store = CheckpointStore(str(folder / "checkpoints"))
    for step in store.steps():
        state = store.load(step, torch.device("cpu"))
        state["procedure"], state["config"] = state.pop("method"), named_as_then(state["config"])
        store.save(step, state)


@pytest.fixture
def old(finished, tmp_path):
    """A copy of the finished run, stopped before its last checkpoint, with its teacher's run beside it."""
    (teacher,) = finished.parent.glob("*_teacher-*")
    place = tmp_path / "runs"
    shutil.copytree(finished, place / "old")
    shutil.copytree(teacher, place / "smoke_teacher-94241b7b8049")  # another hash: it was that of the names
    for path in (*(place / "old" / "checkpoints").glob("step_00000008*"), *(place / "old").glob("summary.json")):
        path.unlink()
    for folder in place.iterdir():
        written_as_then(folder)
    return place / "old"


def test_it_is_sampled_and_evaluated(old, finished, tmp_path, capsys):
    """Its teacher is found by what it was trained with."""
    for options in ([], ["--teacher"]):
        images = []
        for run in (old, finished):
            assert sample(["--run", str(run), *options, "--num", "6", "--out", "x.npz"]) == 0
            images.append(Path("x.npz").read_bytes())
        assert (images[0] == images[1]) is bool(options)  # the student is two steps younger
        assert evaluate(["--run", str(old), *options, "--num", "60"]) == 0
    assert not [path for path in old.parent.iterdir() if path.name not in ("old", "smoke_teacher-94241b7b8049")]


def test_it_is_resumed_to_the_same_end(old, finished):
    """Line for line and bit for bit; nothing is trained but its last steps."""
    assert train([*tiny(), "--out", str(old)]) == 0
    assert {path.name for path in old.parent.iterdir()} == {"old", "smoke_teacher-94241b7b8049"}
    assert lines(old) == lines(finished)
    for part in ("method", "ema"):
        assert same(weights(old)[part], weights(finished)[part])
    summary, expected = (json.loads((run / "summary.json").read_text()) for run in (old, finished))
    for name in ("student_frechet", "teacher_frechet", "student_label_accuracy"):
        assert summary[name] == expected[name]
