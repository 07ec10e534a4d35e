"""One process, several, whole copies, shards, micro-batches: one run."""

import json

import pytest
import torch

from realuid import checkpoints
from tests.commands.conftest import tiny
from tests.commands.processes import train

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself

WAYS = {
    "micro-batches": (1, ["Trainer.micro_batch = 4"]),
    "2 copies": (2, []),
    "4 copies": (4, []),
    "2 copies, micro-batches": (2, ["Trainer.micro_batch = 4"]),
    "2 shards": (2, ["Trainer.parallelism = @FSDP()"]),
    "4 shards": (4, ["Trainer.parallelism = @FSDP()"]),
    "2 shards, micro-batches": (2, ["Trainer.parallelism = @FSDP()", "Trainer.micro_batch = 4"]),
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data) -> str:
    """The checkpoint of a teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(data))
        arguments = tiny("Trainer.method = @TeacherTraining()", "Trainer.evaluator = None", "IMAGES = 64")
        assert train(1, [*arguments, "--out", str(folder)]) == [0]
    return checkpoints.CheckpointStore(str(folder / "checkpoints")).newest()


def steps(count: int, teacher: str, *more: str) -> list[str]:
    """Arguments of a run of so many steps, each of two updates of the fake network and one of the generator."""
    return tiny(
        f"Trainer.images = {16 * count}",  # IMAGES, which the learning rate falls with, stays
        "CosineLR.last = 0.1",
        f"Teacher.checkpoint = '{teacher}'",
        "Trainer.lanes = 4",
        "Trainer.evaluator = None",
        "Trainer.log_images = 80",
        *more,
    )


def weights(folder) -> dict[str, torch.Tensor]:
    """All weights of the newest checkpoint."""
    state = checkpoints.load(checkpoints.CheckpointStore(str(folder / "checkpoints")).newest())
    found = {f"student {name}": value for name, value in state["method"]["student"].items()}
    found |= {f"fake {name}": value for name, value in state["method"]["fake"][0].items()}
    return found | {f"average {name}": value for name, value in state["ema"]["weights"]["0.9"].items()}


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data, teacher):
    """The folder of one process's run of so many steps, by number and type."""
    found = {}

    def run(count: int, dtype: torch.dtype):
        if (count, dtype) not in found:
            folder = found[count, dtype] = tmp_path_factory.mktemp("alone")
            assert train(1, [*steps(count, teacher), "--out", str(folder)], dtype) == [0]
        return found[count, dtype]

    return run


def check_weights(folder, expected_folder) -> None:
    expected, found = weights(expected_folder), weights(folder)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        error = (found[name] - value).abs().max() / value.abs().max().clamp_min(1e-3)
        assert float(error) <= (1e-6 if name.startswith("average") else 1e-8), name  # averages are float32


def check_losses(folder, expected_folder) -> None:
    expected, found = lines(expected_folder), lines(folder)
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for one, other in zip(expected, found, strict=True):
        for name in ("fake_loss", "generator_loss", "gap"):
            assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-3), (one["step"], name)


def check_diagnostics(folder, expected_folder) -> None:
    """Also of a process, or micro-batch, that holds one real sample alone."""
    expected, found = lines(expected_folder)[-1], lines(folder)[-1]
    for name in ("real_mean", "real_spread", "generated_mean", "generated_spread"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name
    assert found["real_spread"] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["micro-batches", "2 copies, micro-batches", "4 shards", "2 shards, micro-batches"])
def test_a_few_steps_give_the_weights_and_diagnostics_of_one_process(tmp_path, alone, teacher, way):
    size, bindings = WAYS[way]
    assert train(size, [*steps(4, teacher, *bindings), "--out", str(tmp_path)], torch.float64) == [0] * size
    check_weights(tmp_path, alone(4, torch.float64))
    check_diagnostics(tmp_path, alone(4, torch.float64))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_fifty_steps_in_float64_give_the_weights_of_one_process(tmp_path, alone, teacher, way):
    size, bindings = WAYS[way]
    assert train(size, [*steps(50, teacher, *bindings), "--out", str(tmp_path)], torch.float64) == [0] * size
    check_weights(tmp_path, alone(50, torch.float64))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["2 copies", "4 copies", "2 shards", "4 shards"])
def test_fifty_steps_in_float32_have_the_losses_of_one_process(tmp_path, alone, teacher, way):
    size, bindings = WAYS[way]
    assert train(size, [*steps(50, teacher, *bindings), "--out", str(tmp_path)]) == [0] * size
    assert lines(tmp_path)[-1]["step"] == 50
    check_losses(tmp_path, alone(50, torch.float32))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_shards_of_four_processes_are_resumed_by_two_and_by_one(tmp_path, alone, teacher):
    for size, count in ((4, 4), (2, 8), (1, 12)):
        arguments = steps(count, teacher, "Trainer.parallelism = @FSDP()")
        assert train(size, [*arguments, "--out", str(tmp_path)], torch.float64) == [0] * size
    check_weights(tmp_path, alone(12, torch.float64))
