"""sample.py and evaluate.py on a finished run."""

import json

import numpy as np
import pytest
from PIL import Image

from realuid.commands import main as realuid
from realuid.commands.evaluate import main as evaluate
from realuid.commands.sample import main as sample


def test_samples_are_a_grid_a_file_of_arrays_or_single_images(finished, tmp_path):
    run = ["--run", str(finished), "--num", "20"]
    assert sample([*run, "--out", str(tmp_path / "grid.png")]) == 0
    assert sample([*run, "--out", str(tmp_path / "arrays.npz")]) == 0
    assert sample([*run, "--out", str(tmp_path / "images")]) == 0
    arrays = np.load(tmp_path / "arrays.npz", allow_pickle=False)
    assert arrays["images"].shape == (20, 8, 8, 1)
    assert arrays["labels"].tolist() == [*range(10), *range(10)]
    assert Image.open(tmp_path / "grid.png").width > 500
    single = np.asarray(Image.open(tmp_path / "images" / "000013.png"))
    assert np.array_equal(single, arrays["images"][13, :, :, 0])


def test_image_i_depends_on_the_seed_and_on_i_alone(finished, tmp_path):
    def images(name: str, *arguments: str) -> np.ndarray:
        assert sample(["--run", str(finished), "--out", str(tmp_path / name), *arguments]) == 0
        return np.load(tmp_path / name, allow_pickle=False)["images"]

    many, few = images("many.npz", "--num", "30"), images("few.npz", "--num", "10")
    assert np.abs(many[:10].astype(int) - few.astype(int)).max() <= 1
    assert not np.array_equal(few, images("other.npz", "--num", "10", "--seed", "1"))
    assert not np.array_equal(few, images("teacher.npz", "--num", "10", "--teacher"))


def test_labels_are_taken_in_turn(finished, tmp_path):
    out = tmp_path / "x.npz"
    assert sample(["--run", str(finished), "--num", "5", "--labels", "3", "7", "--out", str(out)]) == 0
    assert np.load(out, allow_pickle=False)["labels"].tolist() == [3, 7, 3, 7, 3]


def test_a_checkpoint_file_alone_can_be_sampled(finished, tmp_path):
    newest = sorted((finished / "checkpoints").glob("*.pt"))[-1]
    lone = tmp_path / "lone.pt"
    lone.write_bytes(newest.read_bytes())
    assert sample(["--model", str(lone), "--num", "3", "--out", str(tmp_path / "x.png")]) == 0


def test_evaluate_repeats_the_value_of_the_summary(finished, capsys):
    summary = json.loads((finished / "summary.json").read_text())
    count = str(summary["provenance"]["student_frechet"]["count"])
    for role, options in (("student", []), ("teacher", ["--teacher"])):
        assert evaluate(["--run", str(finished), "--num", count, *options]) == 0
        line = json.loads(capsys.readouterr().out)
        assert line[f"{role}_frechet"] == pytest.approx(summary[f"{role}_frechet"], rel=6e-4)  # four digits
        provenance = summary["provenance"][f"{role}_frechet"]
        assert {name: line["provenance"][name] for name in provenance} == provenance


def test_steps_and_averages_are_chosen_and_recorded(finished, capsys):
    assert evaluate(["--run", str(finished), "--num", "40", "--teacher", "--steps", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["sampler"] == "Euler-3 UniformGrid()"
    assert evaluate(["--run", str(finished), "--num", "40", "--ema", "0.99"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["ema"] == "0.99"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--run", "nowhere"], "nowhere"),
        (["--model", "nowhere.pt"], "nowhere.pt"),
        (["--ema", "0.5"], "0.9, 0.99"),
        (["--checkpoint", "77"], "77"),
        (["--labels", "10"], "10 classes"),
        (["--steps", "3"], "--teacher"),
        (["--teacher", "--steps", "0"], "--steps"),
        (["--teacher", "--ema", "0.9"], "Teacher.ema"),
        (["--out", "x.jpg"], "x.jpg"),
    ],
)
def test_mistakes_are_one_line_with_status_2(options, word, finished, capsys):
    which = [] if options[0] in ("--run", "--model") else ["--run", str(finished)]
    assert sample([*which, "--out", "x.png", *options]) == 2
    message = capsys.readouterr().err.strip()
    assert word in message
    assert len(message.splitlines()) == 1


def test_the_console_script_offers_the_same_commands(finished, tmp_path, capsys):
    assert realuid(["sample", "--run", str(finished), "--num", "2", "--out", str(tmp_path / "x.png")]) == 0
    assert realuid(["paint"]) == 2
    assert "commands are train, sample, evaluate, study," in capsys.readouterr().err
