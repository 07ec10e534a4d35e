"""evaluate.py beyond a single figure: references, other metrics, --watch and --compare."""

import json
import shutil

import numpy as np
import pytest

from realuid.commands.evaluate import main as evaluate
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train
from tests.commands.conftest import tiny

RUN = ("--num", "60")


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_figures_have_four_digits_and_a_stamp(finished, capsys):
    assert evaluate(["--run", str(finished), *RUN]) == 0
    (line,) = lines(capsys)
    assert line["student_frechet"] == float(f"{line['student_frechet']:.4g}")
    known = {"network", "network_sha256", "resize", "count", "seed", "reference", "reference_count"}
    assert known | {"checkpoint", "step", "images", "sampler", "ema", "weights"} <= set(line["stamp"])


def test_other_metrics_are_bound_after_training(finished, capsys, tmp_path):
    kept = ["--features", str(tmp_path / "kept")]
    assert evaluate(["--run", str(finished), *RUN, "--metrics", "gin/metrics/full.gin", *kept]) == 0
    bind = ["--bind", "Evaluator.metrics = (@KernelDistance(),)", "--bind", "KernelDistance.subsets = 5"]
    assert evaluate(["--run", str(finished), *RUN, *bind, *kept]) == 0
    full, one = lines(capsys)
    assert {"student_frechet", "student_kid", "student_precision", "student_coverage", "student_memorised"} <= set(full)
    assert full["settings"]["student_kid"]["subsets"] == 100
    assert one["settings"] == {"student_kid": {"subsets": 5, "size": 1000, "seed": 0}}
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 1, "the features were extracted twice"
    assert full["student_agreement"] == one["student_agreement"]


def test_the_best_checkpoint_is_kept_and_can_be_evaluated(finished, capsys):
    best = json.loads((finished / "best.json").read_text())
    curve = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    values = [row[name] for row in curve for name in row if name.startswith("student_frechet")]
    assert best["value"] == min(values)
    assert json.loads((finished / "summary.json").read_text())["best"] == best
    ema = ["--ema", best["ema"]]
    assert evaluate(["--run", str(finished), *RUN, "--checkpoint", "best", *ema]) == 0
    (line,) = lines(capsys)
    assert line["student_frechet"] == pytest.approx(best["value"], rel=1e-3)
    assert line["stamp"]["step"] == best["step"]


def test_a_reference_is_written_and_read(finished, capsys, tmp_path):
    path = str(tmp_path / "digits.npz")
    assert evaluate(["--run", str(finished), "--write-reference", path]) == 0
    assert evaluate(["--run", str(finished), *RUN, "--reference", path]) == 0
    assert evaluate(["--run", str(finished), *RUN]) == 0
    by_file, by_data = lines(capsys)
    assert by_file["student_frechet"] == by_data["student_frechet"]
    assert by_file["stamp"]["reference"] != by_data["stamp"]["reference"]
    np.savez(tmp_path / "other.npz", mu=np.zeros(5), sigma=np.eye(5))
    assert evaluate(["--run", str(finished), *RUN, "--reference", str(tmp_path / "other.npz")]) == 2
    assert "5 features, small-classifier has 64" in capsys.readouterr().err


def test_watch_evaluates_each_checkpoint_and_average_once(finished, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    steps = sorted(int(path.stem[5:]) for path in (run / "checkpoints").glob("step_*.pt"))
    for _ in range(2):
        assert evaluate(["--run", str(run), "--num", "40", "--watch", "0.1"]) == 0
    shown = lines(capsys)
    assert [(row["step"], row["stamp"]["ema"]) for row in shown] == [(s, e) for s in steps for e in ("0.9", "0.99")]
    kept = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [row["student_frechet"] for row in kept] == [row["student_frechet"] for row in shown]


@pytest.fixture(scope="module")
def teacher(finished):
    (folder,) = finished.parent.glob("*_teacher-*")
    return folder


def test_comparison_in_html(finished, teacher, tmp_path):
    out = tmp_path / "both.html"
    assert evaluate(["--compare", str(finished), str(teacher), "--num", "40", "--out", str(out)]) == 0
    page = out.read_text()
    assert page.count("data:image/png") == 2
    assert page.count("<tr>") == 3
    assert "Euler-2" in page
    assert "OneStep" in page
    assert "against wall time" in page
    assert 'src="http' not in page


def test_comparison_in_markdown(finished, tmp_path):
    out = tmp_path / "one.md"
    assert evaluate(["--compare", str(finished), "--num", "40", "--out", str(out)]) == 0
    text = out.read_text()
    assert text.startswith("| run | sampler | average | images seen | frechet | agreement |")
    for name in ("one-0.png", "one-images.svg", "one-time.svg"):
        assert name in text
        assert (tmp_path / name).stat().st_size > 100


def test_runs_that_are_not_measured_alike_are_not_compared(finished, tmp_path, capsys):
    from realuid.evaluation import comparison

    other = tmp_path / "other"
    shutil.copytree(finished, other)
    text = (other / "config.gin").read_text()
    assert text
    seen = []
    original = comparison.comparable

    def spoiled(stamps):
        stamps = [(name, dict(stamp)) for name, stamp in stamps]
        stamps[1][1]["reference"] = "another"
        seen.append(stamps)
        original(stamps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "comparable", spoiled)
        out = tmp_path / "x.html"
        assert evaluate(["--compare", str(finished), str(other), "--num", "40", "--out", str(out)]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "were not measured alike" in message
    assert "reference" in message
    assert seen
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--num", "1"], "--num must be at least 2"),
        (["--reference", "nowhere.npz"], "there is no reference file nowhere.npz"),
        (["--metrics", "nowhere.gin"], "nowhere.gin"),
        (["--bind", "Evaluator.metrics = ()"], "names no metric"),
        (["--watch", "1", "--teacher"], "--watch follows a run"),
    ],
)
def test_mistakes_are_one_line(options, word, finished, capsys):
    assert evaluate(["--run", str(finished), *options]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert word in message


def test_mistakes_of_comparisons(finished, tmp_path, capsys):
    assert evaluate(["--compare", str(finished), "--out", "x.pdf"]) == 2
    assert "FILE.html or FILE.md" in capsys.readouterr().err
    assert evaluate(["--compare", str(tmp_path / "nowhere"), "--out", "x.html"]) == 2
    assert "no run with a checkpoint" in capsys.readouterr().err


def test_no_best_checkpoint_without_evaluations(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "checkpoints" / "best.pt").unlink()
    assert sample(["--run", str(run), "--checkpoint", "best", "--out", "x.png"]) == 2
    assert "has no best checkpoint" in capsys.readouterr().err


def test_a_quick_evaluation_is_named_for_its_images(teacher, tmp_path):
    run = tmp_path / "quick"
    shutil.copytree(teacher, tmp_path / teacher.name)  # or it would be trained again
    assert train([*tiny("Evaluator.quick_count = 30"), "--out", str(run)]) == 0
    curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    within = [row for row in curve if "student_frechet_of_30" in row]
    assert [row["images"] for row in within] == [64]
    assert {"student_frechet_of_30@0.99", "student_agreement_of_30"} <= set(within[0])
    assert "student_frechet" in curve[-1]
    best = json.loads((run / "best.json").read_text())
    assert best["stamp"]["count"] == 30
    assert best["value"] == min(within[0]["student_frechet_of_30"], within[0]["student_frechet_of_30@0.99"])
