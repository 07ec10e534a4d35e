"""Token embeddings with a mask, made by hand, through everything that a run goes through. No text encoder is needed."""

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
from realuid.conditions import Condition, Field
from realuid.data.pixels import to_uint8
from realuid.data.shards.writer import NewSample, write_shards
from tests.commands.conftest import ROOT, TINY
from tests.commands.processes import train
from tests.commands.test_many_processes import check_diagnostics, check_losses, check_weights

pytestmark = pytest.mark.xdist_group("processes")

COUNT, TOKENS, WIDTH = 96, 4, 8
FIELDS = (Field("text", (TOKENS, WIDTH)), Field("mask", (TOKENS,), "bool"))
RECIPE = f"""
include '{ROOT}/gin/smoke.gin'
CLASSES = 3
InMemory.conditions = (@text/Field(), @mask/Field())
text/Field.name = 'text'
text/Field.shape = ({TOKENS}, {WIDTH})
mask/Field.name = 'mask'
mask/Field.shape = ({TOKENS},)
mask/Field.dtype = 'bool'
UNet.classes = 0
UNet.context = {WIDTH}
Evaluator.count = 30
TeacherTraining.condition_dropout = 0.2
Teacher.model = @GuidedModel()
GuidedModel.model = @teacher/MatchingModel()
GuidedModel.scale = 1.5
"""


@pytest.fixture(scope="module")
def told() -> Condition:
    """Embeddings of one to four tokens. What lies behind the mask is noise, which must not be read."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (COUNT, 1), generator=generator)
    return Condition({"text": torch.randn(COUNT, TOKENS, WIDTH, generator=generator), "mask": mask})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, told):
    """Arguments of a tiny run on images whose brightness their embedding says."""
    folder = tmp_path_factory.mktemp("embeddings")
    noise = np.random.default_rng(0).integers(0, 100, (COUNT, 1, 8, 8))
    samples = [
        NewSample(
            np.uint8(noise[i] + 50 * (i % 3)), i % 3, fields={name: tensor[i].numpy() for name, tensor in told.items()}
        )
        for i in range(COUNT)
    ]
    about = {"name": "told", "source": "-", "licence": "-", "shard_size": COUNT}
    write_shards(
        samples, str(folder / "set"), split="train", classes="abc", shape=(1, 8, 8), conditions=FIELDS, **about
    )
    (folder / "told.gin").write_text(RECIPE + f"DATA = '{folder / 'set'}'\n", encoding="utf-8")

    def made(*more: str) -> list[str]:
        arguments = ["--gin", str(folder / "told.gin")]
        for binding in (*TINY, "Evaluator.count = 30", *more):
            arguments += ["--bind", binding]
        return arguments

    return made


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory, data):
    """A run whose guided teacher was trained first, to its end; with real pairs."""
    out = tmp_path_factory.mktemp("told") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        assert main([*recipe("Checkpoints.keep = 9"), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def teacher(finished) -> str:
    """The binding of its teacher's checkpoint."""
    folder = next(path for path in finished.parent.iterdir() if "_teacher-" in path.name)
    return f"Teacher.checkpoint = '{checkpoints.CheckpointStore(str(folder / 'checkpoints')).newest()}'"


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def lines(folder):
    """Of metrics.jsonl, without times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in sorted(line) if "loss" in name or "frechet" in name} for line in found]


def test_training_uses_real_pairs_and_evaluation_repeats_its_values(finished, capsys):
    assert (finished / "checkpoints").exists()
    assert all("fake_error_real" in json.loads(line) for line in (finished / "metrics.jsonl").open() if "gap" in line)
    capsys.readouterr()
    assert evaluate(["--run", str(finished), "--num", "30"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["student_frechet"] == pytest.approx(summary(finished)["student_frechet"], rel=1e-3)


@pytest.mark.parametrize("role", [[], ["--teacher"]], ids=["student", "guided teacher"])
def test_sampling_takes_the_datas_embeddings(finished, role):
    assert sample(["--run", str(finished), *role, "--num", "5", "--out", "images.npz"]) == 0
    with np.load("images.npz") as content:
        assert content["images"].shape == (5, 8, 8, 1)


@pytest.mark.slow
def test_torch_programs_draw_the_runs_images(finished, told):
    assert export(["--run", str(finished), "--out", "out", "--formats", "torch"]) == 0
    assert sample(["--run", str(finished), "--num", "6", "--out", "images.npz"]) == 0
    g, rows = realuid.load("out"), told.repeated(0, 6)
    assert [field.name for field in g.conditions] == ["text", "mask"]
    with np.load("images.npz") as content:
        drawn = content["images"].astype(int)
    ours = to_uint8(g.sample(6, condition=rows)).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours.astype(int) - drawn).max() <= 1
    program = torch.export.load("out/model.pt2").module()
    x0 = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(program(x0, rows["text"], rows["mask"]), g(x0, rows), rtol=1e-4, atol=1e-5)
    hidden = torch.where(rows["mask"][..., None], rows["text"], 9.0)
    unseen = (g(x0, Condition({**rows, "text": hidden})) - g(x0, rows)).abs().max()
    seen = (g(x0, Condition({**rows, "text": -rows["text"]})) - g(x0, rows)).abs().max()
    assert float(unseen) < 2e-6
    assert float(seen) > 1e-5, "four steps of training move the embedding's path a little"


@pytest.mark.slow
def test_onnx_draws_the_runs_images(finished, told):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert export(["--run", str(finished), "--out", "out", "--formats", "onnx"]) == 0
    session = runtime.InferenceSession("out/model.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["noise", "text", "mask"]
    x0, rows = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), told.repeated(0, 3)
    given = {"noise": x0.numpy(), **{name: tensor.numpy() for name, tensor in rows.items()}}
    (found,) = session.run(None, given)
    np.testing.assert_allclose(found, realuid.load("out")(x0, rows).numpy(), rtol=1e-3, atol=1e-4)


def leaves(state, place=""):
    """Every tensor and number of a checkpoint, by its place."""
    parts = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else None
    if parts is None:
        return {place: state}
    return {key: value for name, part in parts for key, value in leaves(part, f"{place}/{name}").items()}


@pytest.mark.slow
def test_an_interrupted_run_goes_on_bit_for_bit(recipe, teacher, tmp_path):
    """All but its first checkpoint are taken away, as from a run that was killed after it."""
    arguments = [*recipe("Checkpoints.keep = 9", teacher), "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    store = checkpoints.CheckpointStore(str(tmp_path / "run" / "checkpoints"))
    whole, values, best = checkpoints.load(store.newest()), lines(tmp_path / "run"), summary(tmp_path / "run")
    for step in store.steps()[1:]:
        store.remove(step)
    (tmp_path / "run" / "summary.json").unlink()
    assert main(arguments) == 0
    expected, found = (
        leaves({name: state[name] for name in ("method", "ema")}) for state in (whole, checkpoints.load(store.newest()))
    )
    assert expected.keys() == found.keys()
    for place, value in expected.items():
        assert torch.equal(value, found[place]) if isinstance(value, torch.Tensor) else value == found[place], place
    assert lines(tmp_path / "run") == values
    assert summary(tmp_path / "run")["student_frechet"] == best["student_frechet"]


@pytest.fixture(scope="module")
def few(recipe, teacher):
    """Arguments of four steps."""
    return lambda *more: recipe(
        "Trainer.images = 64",
        "Trainer.lanes = 4",
        "Trainer.evaluator = None",
        "Trainer.log_images = 64",
        teacher,
        *more,
    )


@pytest.fixture(scope="module")
def alone(few, data, tmp_path_factory):
    """The folder of one process's run."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        assert train(1, [*few(), "--out", str(out)], torch.float64) == [0]
    return out


@pytest.mark.parametrize(
    "parallelism",
    [pytest.param("DDP", marks=pytest.mark.slow), pytest.param("FSDP", marks=pytest.mark.exhaustive)],
)
def test_two_processes_take_the_steps_of_one(few, alone, tmp_path, parallelism):
    out = tmp_path / "two" / "run"
    assert train(2, [*few(f"Trainer.parallelism = @{parallelism}()"), "--out", str(out)], torch.float64) == [0, 0]
    check_weights(out, alone)
    check_losses(out, alone)
    check_diagnostics(out, alone)


@pytest.mark.slow
def test_a_teachers_training_in_two_processes_is_that_of_one(recipe, tmp_path):
    """Dropped embeddings included."""
    for size, name in ((1, "one"), (2, "two")):
        arguments = recipe(
            "Trainer.method = @TeacherTraining()", "Trainer.evaluator = None", "IMAGES = 64", "Trainer.lanes = 4"
        )
        assert train(size, [*arguments, "--out", str(tmp_path / name)], torch.float64) == [0] * size
    one, two = (
        checkpoints.load(checkpoints.CheckpointStore(str(tmp_path / name / "checkpoints")).newest())["method"][
            "teacher"
        ]
        for name in ("one", "two")
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-8, atol=1e-10)
