"""Sharded over ranks, every figure is that of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself

HERE = Path(__file__).parent
WORK = """
import json, os, sys
import torch
import torch.distributed as dist
from stand_ins import Given, Pixels
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import Frechet
from realuid.evaluation.inputs import GaussianInputs
from realuid.evaluation.kernel import KernelDistance
from realuid.evaluation.neighbours import DensityCoverage, Memorisation, PrecisionRecall

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group("gloo")
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (151, 1, 2, 2), generator=generator, dtype=torch.uint8)
data = Given(images, torch.arange(151) % 3, "ranks", sources=images)
metrics = [Frechet(), KernelDistance(subsets=5, size=40), PrecisionRecall(limit=90), DensityCoverage(), Memorisation()]
evaluator = Evaluator(features=Pixels(), metrics=metrics, count=101, batch=13 * world)
evaluator.prepare(data, "cpu", rank, world)
made = evaluator.generate(lambda x0, labels, noise: (0.6 * x0 + 0.1).clamp(-1, 1), GaussianInputs(data, 0))
figures = evaluator.judge(made, paired=True)
again = evaluator.judge(made, paired=True)
assert figures == again, (figures, again)
figures |= evaluator.yardsticks()
with open(f"{sys.argv[1]}.{rank}", "w") as file:
    json.dump(figures, file)
if world > 1:
    dist.barrier()
    dist.destroy_process_group()  # else gloo's threads may outlive what they use
"""


def measured(world, tmp_path):
    out = tmp_path / f"world{world}"
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    shared = {**os.environ, "PYTHONPATH": path, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "REALUID_DATA": str(tmp_path / f"data{world}")}
    if world > 1:
        shared["MASTER_PORT"] = str(_free_port())
    ranks = [
        subprocess.Popen([sys.executable, "-c", WORK, str(out)], env={**shared, "RANK": str(rank)}, cwd=tmp_path)
        for rank in range(world)
    ]
    assert [process.wait(timeout=200) for process in ranks] == [0] * world
    return [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(world)]


def _free_port():
    import socket

    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        return given.getsockname()[1]


def test_two_ranks_measure_what_one_does(tmp_path):
    (one,) = measured(1, tmp_path)
    both = measured(2, tmp_path)
    assert both[0] == both[1]
    assert both[0] == pytest.approx(one, rel=1e-9)
    assert {"frechet", "kid", "precision", "coverage", "memorised", "psnr", "halves_kid"} <= set(one)
