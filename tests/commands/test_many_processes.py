"""One process, several, whole copies, shards, micro-batches: one run."""

import json

import pytest
import torch

from realuid import checkpoints
from tests.commands.conftest import tiny
from tests.commands.processes import train

WAYS = {
    "micro-batches": (1, ["Trainer.micro_batch = 4"]),
    "2 copies": (2, []),
    "4 copies": (4, []),
    "2 copies, micro-batches": (2, ["Trainer.micro_batch = 4"]),
    "2 shards": (2, ["Trainer.distribution = @Sharded()"]),
    "4 shards": (4, ["Trainer.distribution = @Sharded()"]),
    "2 shards, micro-batches": (2, ["Trainer.distribution = @Sharded()", "Trainer.micro_batch = 4"]),
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data) -> str:
    """The checkpoint of a teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        arguments = tiny("Trainer.procedure = @TeacherTraining()", "Trainer.evaluator = None", "IMAGES = 64")
        assert train(1, [*arguments, "--out", str(folder)]) == [0]
    return checkpoints.CheckpointStore(str(folder / "checkpoints")).newest()


def steps(count: int, teacher: str, *more: str) -> list[str]:
    """Arguments of a run of so many steps, each of two updates of the fake network and one of the generator."""
    return tiny(
        f"IMAGES = {16 * count}",
        f"Teacher.checkpoint = '{teacher}'",
        "Trainer.lanes = 4",
        "Trainer.evaluator = None",
        "Trainer.log_images = 80",
        "Distillation.fake_steps = 2",
        *more,
    )


def weights(folder) -> dict[str, torch.Tensor]:
    """All weights of the newest checkpoint."""
    state = checkpoints.load(checkpoints.CheckpointStore(str(folder / "checkpoints")).newest())
    found = {f"student {name}": value for name, value in state["procedure"]["student"].items()}
    found |= {f"fake {name}": value for name, value in state["procedure"]["fake"][0].items()}
    return found | {f"average {name}": value for name, value in state["ema"]["weights"]["0.9"].items()}


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data, teacher):
    """The folder of one process's run, by number type."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        for dtype in (torch.float32, torch.float64):
            folder = found[dtype] = tmp_path_factory.mktemp("alone")
            assert train(1, [*steps(50, teacher), "--out", str(folder)], dtype) == [0]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_in_float64_the_weights_are_those_of_one_process(tmp_path, alone, teacher, way):
    size, bindings = WAYS[way]
    assert train(size, [*steps(50, teacher, *bindings), "--out", str(tmp_path)], torch.float64) == [0] * size
    expected, found = weights(alone[torch.float64]), weights(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        error = (found[name] - value).abs().max() / value.abs().max().clamp_min(1e-3)
        assert float(error) <= (1e-6 if name.startswith("average") else 1e-8), name  # averages are float32


@pytest.mark.parametrize("way", ["2 copies", "2 shards", "4 shards"])
def test_in_float32_the_losses_are_those_of_one_process(tmp_path, alone, teacher, way):
    size, bindings = WAYS[way]
    assert train(size, [*steps(50, teacher, *bindings), "--out", str(tmp_path)]) == [0] * size
    expected, found = lines(alone[torch.float32]), lines(tmp_path)
    assert [line["step"] for line in found] == [line["step"] for line in expected] == list(range(5, 51, 5))
    for one, other in zip(expected, found, strict=True):
        for name in ("fake_loss", "generator_loss", "gap"):
            assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-3), (one["step"], name)
