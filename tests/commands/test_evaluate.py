"""evaluate.py beyond a single value: references, other metrics, --watch and --compare."""

import argparse
import json
import shutil

import numpy as np
import pytest
import torch

from realuid.commands.evaluate import main as evaluate
from realuid.commands.options import add_model
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train
from realuid.conditions import labelled
from realuid.evaluation.frechet import Moments
from realuid.evaluation.provenance import differences
from realuid.evaluation.reference import read_reference, write_reference
from realuid.jobs import runs
from realuid.jobs.evaluate import names_of
from tests.commands.conftest import tiny

RUN = ("--num", "60")


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_values_have_four_digits_and_a_provenance(finished, capsys):
    assert evaluate(["--run", str(finished), *RUN]) == 0
    (line,) = lines(capsys)
    assert line["student_frechet"] == float(f"{line['student_frechet']:.4g}")
    known = {"network", "network_sha256", "resize", "count", "seed", "reference", "reference_count"}
    assert known | {"checkpoint", "step", "images", "sampler", "ema", "weights", "model"} <= set(line["provenance"])


def kept(folder):
    return len(list(folder.glob("features-*.npz")))


EXACT = [
    "Teacher.model = @GuidedModel()",
    "GuidedModel.model = @ConditionalGaussian()",
    "GuidedModel.scale = 1.5",
    "ConditionalGaussian.interpolant = @LinearInterpolant()",
    "ConditionalGaussian.field = 'label'",
    f"ConditionalGaussian.weight = {[[0.02 * (-1) ** number] for number in range(64)]}",
    f"ConditionalGaussian.mean = {[-0.3] * 64}",
    f"ConditionalGaussian.covariance = {(0.1 * np.eye(64)).tolist()}",
    "Distillation.student_init = 'random'",
    "Distillation.fake_init = 'random'",
]
"""A teacher whose samples follow its label, its guidance and its sampler: after a few steps of training a network's
output is near zero, and samples of all samplers and scales are the noise that they start from."""


@pytest.fixture(scope="module")
def exact(tmp_path_factory, data, shared):
    """The folder of a tiny run with such a teacher."""
    out = tmp_path_factory.mktemp("runs") / "exact"
    _, lock = shared
    with lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        assert train([*tiny(*EXACT, "Trainer.evaluate_images = None"), "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_kept_features_are_those_of_the_very_same_samples(exact, capsys, tmp_path):
    """Whatever else they depend on makes others: the student's starting time, the guidance, the sampler, its steps, the
    seed; what they do not depend on does not. Every value is the one that is measured without kept features."""
    folder = tmp_path / "kept"

    def run(*more):
        options = ["--run", str(exact), "--num", "20", *more]
        assert evaluate([*options, "--features", str(folder)]) == 0
        assert evaluate(options) == 0
        with_kept, anew = lines(capsys)
        assert with_kept == anew, more
        return anew, kept(folder)

    def differ(line, other):
        (name,) = (name for name in line if name.endswith("_frechet"))
        return line[name] != other[name]  # of four digits

    student, _ = run()
    assert run("--bind", "Trainer.log_images = 7") == (student, 1)
    early, count = run("--bind", "OneStep.time = 0.8")
    assert (differ(early, student), count) == (True, 2)
    assert early["provenance"]["model"] != student["provenance"]["model"]
    teacher, _ = run("--teacher")
    changes = [
        ["--bind", "GuidedModel.scale = 6.0"],
        ["--bind", "GuidedModel.low = 0.6"],
        ["--bind", "Euler.grid = @ShiftedGrid()", "--bind", "ShiftedGrid.shift = 3.0"],
        ["--steps", "3"],
        ["--seed", "5"],
    ]
    for number, more in enumerate(changes):
        line, count = run("--teacher", *more)
        assert count == 4 + number, more
        assert differ(line, teacher), more
        if more[0] == "--bind":
            assert line["provenance"]["model"] != teacher["provenance"]["model"], more
    assert run("--teacher") == (teacher, 3 + len(changes))


def test_a_bound_scale_reaches_the_model_that_is_measured(exact):
    """By the samples themselves: guidance of a Gaussian multiplies what the label adds to the mean."""
    parser = argparse.ArgumentParser()
    add_model(parser)
    options = parser.parse_args(["--run", str(exact), "--teacher", "--steps", "40"])
    x0, condition = torch.zeros(10, 1, 8, 8), labelled(torch.arange(10))
    shift = {}
    for scale in ("0.0", "1.0", "4.0"):
        model = runs.reopen(options, bindings=[f"GuidedModel.scale = {scale}"])
        shift[scale] = model.generator(x0, condition, torch.zeros).flatten(1)
    told = torch.arange(10)[:, None] * torch.tensor([0.02, -0.02]).repeat(32)
    torch.testing.assert_close(shift["1.0"] - shift["0.0"], told, rtol=0.02, atol=1e-5)
    torch.testing.assert_close(shift["4.0"] - shift["0.0"], 4 * told, rtol=0.02, atol=1e-5)


def test_rounded_weights_are_another_teacher(exact, capsys, tmp_path):
    """Kept features of a teacher in float32 are not those of one in bfloat16, whose checksum is that of the exact
    weights; and what is kept of a teacher for later runs neither."""
    folder, seen = tmp_path / "kept", []
    for bound in ([], ["--bind", "Teacher.storage = 'bfloat16'"], ["--bind", "Teacher.storage = 'float32'"]):
        options = ["--run", str(exact), "--teacher", "--num", "20", "--features", str(folder), *bound]
        assert evaluate(options) == 0
        seen.append(kept(folder))
    plain, rounded, again = (line["provenance"] for line in lines(capsys))
    assert seen == [1, 2, 2]
    assert plain == again
    assert rounded == plain | {"storage": "bfloat16"}
    assert not differences(plain, rounded), "it is the subject, and values of the two may be compared"


@pytest.mark.parametrize("count", ["2", "3"])
def test_too_few_images_for_a_metric_are_refused_in_one_line(finished, count, capsys):
    options = ["--num", count, "--bind", "Evaluator.metrics = (@PrecisionRecall(),)"]
    assert evaluate(["--run", str(finished), *options]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"PrecisionRecall needs at least 4 generated images, got {count}" in message


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
    assert full["student_label_accuracy"] == one["student_label_accuracy"]


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
    assert line["provenance"]["step"] == best["step"]


def test_a_reference_is_written_and_read(finished, capsys, tmp_path):
    path = str(tmp_path / "digits.npz")
    assert evaluate(["--run", str(finished), "--write-reference", path]) == 0
    assert evaluate(["--run", str(finished), *RUN, "--reference", path]) == 0
    assert evaluate(["--run", str(finished), *RUN]) == 0
    by_file, by_data = lines(capsys)
    assert by_file["student_frechet"] == by_data["student_frechet"]
    assert by_file["provenance"]["reference"] != by_data["provenance"]["reference"]
    np.savez(tmp_path / "other.npz", mu=np.zeros(5), sigma=np.eye(5))
    assert evaluate(["--run", str(finished), *RUN, "--reference", str(tmp_path / "other.npz")]) == 2
    assert "5 features, small-classifier has 64" in capsys.readouterr().err


@pytest.mark.slow
def test_watch_evaluates_each_checkpoint_and_average_once(finished, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    steps = sorted(int(path.stem[5:]) for path in (run / "checkpoints").glob("step_*.pt"))
    for _ in range(2):
        assert evaluate(["--run", str(run), "--num", "40", "--watch", "0.1"]) == 0
    shown = lines(capsys)
    assert [(row["step"], row["provenance"]["ema"]) for row in shown] == [
        (s, e) for s in steps for e in ("0.9", "0.99")
    ]
    kept = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [row["student_frechet"] for row in kept] == [row["student_frechet"] for row in shown]


@pytest.mark.slow
def test_watch_evaluates_anew_what_its_files_say_now(finished, capsys, tmp_path):
    """Metrics, what they include, and reference statistics are written anew under the same names."""
    run, metrics, inner, stored = (tmp_path / name for name in ("run", "m.gin", "inner.gin", "ref.npz"))
    shutil.copytree(finished, run)
    metrics.write_text(f"include '{inner}'\n")
    inner.write_text("Evaluator.metrics = (@Frechet(),)\n")
    assert evaluate(["--run", str(finished), "--write-reference", str(stored)]) == 0

    def looked(*more):
        assert evaluate(["--run", str(run), "--num", "20", "--watch", "0.1", *more]) == 0
        return lines(capsys)

    first = looked("--metrics", str(metrics))
    assert first
    assert looked("--metrics", str(metrics)) == []
    inner.write_text("Evaluator.metrics = (@Frechet(), @KernelDistance())\nKernelDistance.size = 10\n")
    assert len(more := looked("--metrics", str(metrics))) == len(first)
    assert "student_kid" in more[0]
    to_stored = looked("--reference", str(stored))
    assert looked("--reference", str(stored)) == []
    known = read_reference(str(stored))
    write_reference(stored, Moments(known.moments.mean + 1, known.moments.covariance), 9, known.provenance)
    assert len(other := looked("--reference", str(stored))) == len(to_stored)
    assert other[0]["student_frechet"] != to_stored[0]["student_frechet"]


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
    assert text.startswith("| run | sampler | average | images seen | frechet | label accuracy |")
    for name in ("one-0.png", "one-images.svg", "one-time.svg"):
        assert name in text
        assert (tmp_path / name).stat().st_size > 100


def test_runs_that_are_not_measured_alike_are_not_compared(finished, tmp_path, capsys):
    from realuid.reports import comparison

    other = tmp_path / "other"
    shutil.copytree(finished, other)
    text = (other / "config.gin").read_text()
    assert text
    seen = []
    original = comparison.check_comparable

    def spoiled(provenances):
        provenances = [(name, dict(provenance)) for name, provenance in provenances]
        provenances[1][1]["reference"] = "another"
        seen.append(provenances)
        original(provenances)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "check_comparable", spoiled)
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


def test_a_run_that_left_its_teacher_behind(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "moved")
    assert evaluate(["--run", str(tmp_path / "moved"), "--teacher", "--num", "40"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "its teacher's run is not beside it: put *_teacher-" in message
    assert "or bind Teacher.checkpoint" in message


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
    assert {"student_frechet_of_30@0.99", "student_label_accuracy_of_30"} <= set(within[0])
    assert "student_frechet" in curve[-1]
    best = json.loads((run / "best.json").read_text())
    assert best["provenance"]["count"] == 30
    assert best["value"] == min(within[0]["student_frechet_of_30"], within[0]["student_frechet_of_30@0.99"])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["a/x", "b/y"], ["x", "y"]),
        (["p/a/run", "q/a/run", "q/b/run"], ["p/a/run", "q/a/run", "q/b/run"]),
        (["a/run", "a/run"], ["run", "run"]),
        ([], []),
    ],
)
def test_runs_of_the_same_name_are_told_apart_by_the_folders_around_them(paths, names):
    assert names_of(paths) == names
