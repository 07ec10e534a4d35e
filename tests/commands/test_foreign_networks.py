"""The networks of other projects, bound in gin and taken through a run: teacher, student, samples, export."""

import pytest
import torch

import realuid
from realuid import checkpoints
from realuid.commands.export import main as export
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train

NETWORKS = {
    "SongUNet": {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (), "waves": "random"},
    "DhariwalUNet": {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": ()},
    "EDM2UNet": {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": ()},
    "DiT": {"width": 16, "depth": 1, "heads": 2},
}
TINY = """
IMAGES = 48
TEACHER_IMAGES = 48
Trainer.batch = 16
teacher/Trainer.batch = 16
Distillation.real_batch = 4
Trainer.log_images = 16
Trainer.evaluate_images = 999
Trainer.sample_images = 999
Evaluator.count = 60
Euler.steps = 2
MatchingModel.network = @{0}()
{0}.shape = (1, 8, 8)
{0}.classes = 10
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["EDM2UNet", *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != "EDM2UNet")]
)
def test_a_run(name, tmp_path):
    bindings = TINY.format(name) + "\n".join(f"{name}.{key} = {value!r}" for key, value in NETWORKS[name].items())
    (tmp_path / "student.gin").write_text(f"include 'gin/smoke.gin'\n{bindings}\n")
    assert train(["--gin", str(tmp_path / "student.gin"), "--out", "runs/tiny"]) == 0
    assert sample(["--run", "runs/tiny", "--num", "10", "--out", "grid.png"]) == 0
    assert export(["--run", "runs/tiny", "--out", "out"]) == 0
    exported = realuid.load("out").network.state_dict()
    (path,) = (tmp_path / "runs" / "tiny" / "checkpoints").glob("step_00000003.pt")
    student = checkpoints.load(str(path))["method"]["student"]
    buffers = [key for key in student if key.endswith(("freqs", "phases"))]
    assert bool(buffers) == (name in ("SongUNet", "EDM2UNet"))
    for key in buffers:  # drawn at random, they belong to the weights
        assert torch.equal(exported[key.rpartition("network.")[2]], student[key])
