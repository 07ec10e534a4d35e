"""Prompts through everything: training, guidance, real pairs, sampling, evaluation, resumption, processes, exports."""

import json

import numpy as np
import pytest
import torch

import realuid
from realuid import checkpoints
from realuid.commands.evaluate import main as evaluate
from realuid.commands.export import main as export
from realuid.commands.sample import main as sample
from realuid.commands.train import main
from realuid.conditions.text import WordLlama
from realuid.data.pixels import to_uint8
from tests.commands.conftest import ROOT, TINY, tiny
from tests.commands.processes import train
from tests.commands.test_many_processes import check_losses, check_weights

pytest.importorskip("tokenizers")
pytestmark = [pytest.mark.xdist_group("text"), pytest.mark.slow]

GUIDED = """
TeacherTraining.condition_dropout = 0.2
Teacher.model = @GuidedModel()
GuidedModel.model = @teacher/MatchingModel()
GuidedModel.scale = 1.5
"""
DIT = """
MatchingModel.network = @DiT()
DiT:
    shape = %SHAPE
    context = %CONTEXT
    width = 32
    depth = 2
    heads = 2
    patch = 2
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Arguments of a tiny run of prompts, with more statements."""

    def made(*more: str, statements: str = "") -> list[str]:
        path = tmp_path_factory.mktemp("gin") / "text.gin"
        text = (
            f"include '{ROOT}/gin/smoke.gin'\ninclude '{ROOT}/gin/data/digits_text.gin'\n"
            "UNet.classes = 0\nUNet.context = %CONTEXT\n"
        )
        path.write_text(text + statements, encoding="utf-8")
        arguments = ["--gin", str(path)]
        for binding in (*TINY, *more):
            if not (binding.startswith("UNet") and "DiT" in statements):
                arguments += ["--bind", binding]
        return arguments

    return made


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory, data):
    """A run with a guided teacher, trained to its end."""
    out = tmp_path_factory.mktemp("text") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        assert main([*recipe(statements=GUIDED), "--out", str(out)]) == 0
    return out


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def images(path):
    with np.load(path) as content:
        return content["images"]


def test_a_run_is_evaluated_by_labels_that_the_network_is_not_told(finished, capsys):
    assert {"student_frechet", "student_label_accuracy", "teacher_label_accuracy"} <= summary(finished).keys()
    capsys.readouterr()
    assert evaluate(["--run", str(finished), "--num", "60"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["student_frechet"] == pytest.approx(summary(finished)["student_frechet"], rel=1e-3)


def test_what_is_drawn_depends_on_the_prompt_and_on_nothing_else(finished):
    def drawn(*words):
        assert sample(["--run", str(finished), "--num", "4", "--out", "images.npz", *words]) == 0
        return images("images.npz")

    one, other = drawn("--prompts", "seven"), drawn("--prompts", "quatre")
    both = drawn("--prompts", "seven", "quatre")
    assert not np.array_equal(one, other)
    assert np.array_equal(both[0], one[0])
    assert np.array_equal(both[1], other[1])
    assert drawn().shape == (4, 8, 8, 1)  # the data's own captions
    assert drawn("--teacher", "--prompts", "seven").shape == (4, 8, 8, 1)


def test_prompts_for_a_model_of_labels_are_one_line(tmp_path, capsys):
    arguments = tiny("IMAGES = 48", "Trainer.method = @TeacherTraining()", "Trainer.evaluator = None")
    assert main([*arguments, "--out", str(tmp_path / "labels")]) == 0
    capsys.readouterr()
    assert sample(["--run", str(tmp_path / "labels"), "--prompts", "seven", "--out", "x.png"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--prompts" in error
    assert "no text encoder" in error


def test_labels_alone_for_a_model_of_prompts_are_one_line(finished, capsys):
    assert sample(["--run", str(finished), "--labels", "3", "--out", "x.png"]) == 2
    assert capsys.readouterr().err.strip().endswith("the model reads mask, text: give --prompts, too")


def test_exports_draw_the_runs_images(finished, tmp_path):
    assert export(["--run", str(finished), "--out", "out", "--formats", "torch"]) == 0
    assert sample(["--run", str(finished), "--num", "6", "--prompts", "two", "acht", "--out", "images.npz"]) == 0
    told = WordLlama()(["two", "acht"])
    g = realuid.load("out")
    assert [field.name for field in g.conditions] == ["text", "mask"]
    ours = to_uint8(g.sample(6, condition=told)).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours.astype(int) - images("images.npz").astype(int)).max() <= 1
    with pytest.raises(ValueError, match=r"reads text \[16, 256\] float16, mask"):
        g.sample(6)
    program = torch.export.load("out/model.pt2").module()
    x0, rows = torch.randn(5, 1, 8, 8), told.repeated(0, 5)
    torch.testing.assert_close(program(x0, rows["text"], rows["mask"]), g(x0, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_runs_with_prompts(finished):
    runtime = pytest.importorskip("onnxruntime")
    assert export(["--run", str(finished), "--out", "out", "--formats", "onnx"]) == 0
    session = runtime.InferenceSession("out/model.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["noise", "text", "mask"]
    x0, rows = torch.randn(3, 1, 8, 8), WordLlama()(["two", "acht", "un"])
    given = {"noise": x0.numpy(), "text": rows["text"].numpy(), "mask": rows["mask"].numpy()}
    (found,) = session.run(None, given)
    np.testing.assert_allclose(found, realuid.load("out")(x0, rows).numpy(), rtol=1e-3, atol=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_result(recipe, finished, tmp_path):
    """Its last checkpoint but one is what a killed run leaves."""
    out = tmp_path / "again"
    teacher = next(path for path in finished.parent.iterdir() if "_teacher-" in path.name)
    given = f"Teacher.checkpoint = '{checkpoints.CheckpointStore(str(teacher / 'checkpoints')).newest()}'"
    more = ("Checkpoints.keep = 9", given)
    assert main([*recipe(*more, statements=GUIDED), "--out", str(out)]) == 0
    whole = checkpoints.load(checkpoints.CheckpointStore(str(out / "checkpoints")).newest())
    store = checkpoints.CheckpointStore(str(out / "checkpoints"))
    for step in store.steps()[1:]:
        store.remove(step)
    (out / "summary.json").unlink()
    assert main([*recipe(*more, statements=GUIDED), "--out", str(out)]) == 0
    resumed = checkpoints.load(store.newest())
    for name, value in whole["method"]["student"].items():
        assert torch.equal(value, resumed["method"]["student"][name]), name
    assert summary(out)["student_frechet"] == summary(finished)["student_frechet"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("network", "parallelism"),
    [
        pytest.param("UNet", "DDP", marks=pytest.mark.exhaustive),
        pytest.param("UNet", "FSDP", marks=pytest.mark.exhaustive),
        pytest.param("DiT", "DDP", marks=pytest.mark.exhaustive),
        pytest.param("DiT", "FSDP", marks=pytest.mark.slow),
    ],
)
def test_two_processes_are_one_run(recipe, tmp_path, network, parallelism):
    def arguments(*more):
        return recipe(
            "Trainer.images = 64",
            "Trainer.lanes = 4",
            "Trainer.evaluator = None",
            "TEACHER_IMAGES = 64",
            *more,
            statements=DIT if network == "DiT" else "",
        )

    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    assert train(1, [*arguments(), "--out", str(one)], torch.float64) == [0]
    assert train(2, [*arguments(f"Trainer.parallelism = @{parallelism}()"), "--out", str(two)], torch.float64) == [0, 0]
    check_weights(two, one)
    check_losses(two, one)


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        (["UNet.context = 128"], ["student's UNet needs text [any, 128] float32, but text [16, 256] float16 is given"]),
        (["InMemory.encoder = None"], ["needs text [any, 256] float32, which is not given (label (10 classes) is)"]),
        (["UNet.classes = 11"], ["needs label (11 classes), but label (10 classes) is given"]),
    ],
)
def test_conditions_that_do_not_fit_are_refused_at_assembly(recipe, tmp_path, capsys, bindings, words):
    assert main([*recipe(*bindings), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    for word in (*words, "Trainer.data = @InMemory()"):
        assert word in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_images_as_conditions_beside_noise(tmp_path, data):
    """gin/fm_digits_lowres.gin: the same mechanism; what the student draws has the low resolution that it was shown."""
    arguments = ["--gin", str(ROOT / "gin" / "fm_digits_lowres.gin"), "--out", str(tmp_path / "run")]
    for binding in (*TINY, "CosineLR.warm_up = 0", "teacher/CosineLR.warm_up = 0", "Trainer.lanes = 2"):
        arguments += ["--bind", binding]
    assert main(arguments) == 0
    assert "student_label_accuracy" in summary(tmp_path / "run")
    assert sample(["--run", str(tmp_path / "run"), "--num", "3", "--out", "images.npz"]) == 0
