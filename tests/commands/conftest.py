"""A tiny distillation that all command tests share: its data and its teacher are made once."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TINY = [
    "IMAGES = 128",
    "Trainer.batch = 16",
    "Trainer.log_images = 32",
    "Trainer.sample_images = 64",
    "Trainer.evaluate_images = 64",
    "Trainer.checkpoint_images = 48",
    "Distillation.real_batch = 4",
    "Distillation.fake_steps = 2",
    "UNet.width = 8",
    "UNet.multipliers = (1,)",
    "Evaluator.count = 60",
    "Euler.steps = 2",
    "TEACHER_IMAGES = 128",
]
"""Bindings that make gin/smoke.gin take a second or two; eight steps, checkpoints at steps 3, 6 and 8."""


def tiny(*more: str) -> list[str]:
    """Arguments of train.py: gin/smoke.gin made tiny, and more bindings."""
    arguments = ["--gin", str(ROOT / "gin" / "smoke.gin")]
    for binding in (*TINY, *more):
        arguments += ["--bind", binding]
    return arguments


@pytest.fixture(scope="session")
def data(shared) -> Path:
    """One REALUID_DATA for the session: the digits and their classifier are made once."""
    folder, _ = shared
    return folder / "data"


@pytest.fixture(autouse=True)
def _environment(data, monkeypatch, tmp_path):
    monkeypatch.setenv("REALUID_DATA", str(data))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, data, shared) -> Path:
    """The folder of one tiny run, trained through the command line to its end."""
    from realuid.commands.train import main

    folder, lock = shared
    made, own = folder / "finished", tmp_path_factory.mktemp("runs")
    with lock, pytest.MonkeyPatch.context() as patch:  # the first one makes the data, too
        patch.setenv("REALUID_DATA", str(data))
        if not (made / "tiny" / "summary.json").exists():
            assert main([*tiny(), "--out", str(made / "tiny")]) == 0
    shutil.copytree(made, own, dirs_exist_ok=True)  # tests write into it
    return own / "tiny"
