"""`realuid inspect FILE`: what it prints is a gin file with which the checkpoint is sampled."""

import pytest
import torch

from realuid import config as configuration
from realuid.commands import main
from realuid.config import Config
from realuid.jobs.inspect_checkpoint import known_of
from realuid.pretrained import read
from tests.pretrained.made_up import inputs
from tests.pretrained.test_dit import saved, state
from tests.pretrained.test_edm import snapshot, song


def inspected(capsys, *words):
    capsys.readouterr()
    assert main(["inspect", *map(str, words)]) == 0
    return capsys.readouterr().out


FILES = {
    "edm": lambda path: snapshot(path, song()),
    "edm, vp": lambda path: snapshot(
        path,
        song(),
        wrapper="VPPrecond",
        **{"sigma_data": None, "beta_d": 19.9, "beta_min": 0.1, "M": 1000, "sigma_min": 0.002, "sigma_max": 80.0},
    ),
    "sit": lambda path: saved(path, {"ema": state()}),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_printed_is_a_teacher(tmp_path, capsys, kind):
    """Sampled from the printed text alone; the network's answers are those of the file's own reader."""
    path = FILES[kind](tmp_path / "file")
    told = ["--format", "sit", "--known", "heads=4"] if kind == "sit" else []
    (tmp_path / "teacher.gin").write_text(inspected(capsys, path, *told))
    known = ["--bind", "Teacher.known = {'heads': 4}"] if kind == "sit" else []
    config = configuration.load_part(
        tmp_path / "teacher.gin", [part for part in known if part != "--bind"], root="Teacher"
    )
    teacher = configuration.build(config)
    teacher.load()
    network, read_alone = teacher.model.network, read(path, told[1] if told else None, known={"heads": 4}).build()
    x, times, condition = inputs(network.shape)
    assert torch.equal(network(x, times, condition), read_alone(x, times, condition))


def test_our_own_checkpoint_is_its_configuration(finished, capsys):
    checkpoint = sorted((finished / "checkpoints").glob("step_*.pt"))[-1]
    text = inspected(capsys, checkpoint)
    assert text.startswith("# step 8, 128 images, averages 0.9, 0.99\n")
    run = Config.from_text((finished / "config.gin").read_text())
    assert configuration.differences(Config.from_text(text), run) == []


def test_a_run_is_its_newest_checkpoint(finished, capsys):
    checkpoint = sorted((finished / "checkpoints").glob("step_*.pt"))[-1]
    assert inspected(capsys, finished) == inspected(capsys, checkpoint)
    assert inspected(capsys, finished / "checkpoints") == inspected(capsys, checkpoint)


@pytest.mark.parametrize("known", ["shape=(3, 8, 8)", "shape=3,8,8", "shape = (3,8,8)"])
def test_a_shape_is_written_in_either_way(known):
    assert known_of([known]) == {"shape": (3, 8, 8)}


def test_plain_tensors_are_listed(tmp_path, capsys):
    torch.save({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, tmp_path / "x.pt")
    text = inspected(capsys, tmp_path / "x.pt")
    assert "# a: [2, 3] float32" in text
    assert "# b: [4] float16" in text


@pytest.mark.parametrize("name", ["nothing.pt", "folder"])
def test_mistakes_are_one_line(tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    assert main(["inspect", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
