"""tools/export.py on a finished run."""

import json

import numpy as np
import torch

import realuid
from realuid.commands.export import main
from realuid.commands.sample import main as sample
from realuid.data.pixels import to_uint8


def test_the_exported_student_gives_the_images_of_the_run(finished, tmp_path):
    assert main(["--run", str(finished), "--out", "out"]) == 0
    g = realuid.load("out")
    assert sample(["--run", str(finished), "--num", "12", "--out", "images.npz"]) == 0
    with np.load("images.npz") as content:
        images, labels = content["images"], content["labels"]
    ours = to_uint8(g.sample(12, labels=labels.tolist())).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours.astype(int) - images.astype(int)).max() <= 1  # 1e-5 may cross the edge of a level
    assert (ours == images).mean() > 0.999
    described = json.loads((tmp_path / "out" / "model.json").read_text())
    assert described["network"] == "UNet"
    assert described["arguments"]["width"] == 8
    assert described["metrics"]["steps"] == 8
    card = (tmp_path / "out" / "README.md").read_text()
    assert "student_frechet" in card
    assert f"# {finished.name}" in card
    assert torch.equal(g.sample(3), realuid.load("out").sample(3))


def test_refusals(finished, capsys):
    assert main(["--run", str(finished), "--teacher", "--out", "out"]) == 2
    assert "only students are exported" in capsys.readouterr().err
    teacher = next(path for path in finished.parent.iterdir() if path != finished and path.is_dir())
    assert main(["--run", str(teacher), "--out", "out"]) == 2
    assert "this run trains a teacher" in capsys.readouterr().err
    assert main(["--run", str(finished), "--out", "out", "--formats", "diffusers"]) == 2
    assert "diffusers has no pipeline" in capsys.readouterr().err
