"""Two real processes (gloo), each with half of the weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from realuid.losses import DiffInstruct, DistillationLoss, RealUID
from realuid.networks.mlp import MLP
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.training.compute import Compute
from realuid.training.parallelism import DDP, FSDP, Parallelism, whole
from realuid.training.randomness import Randomness
from realuid.training.world import World
from tests import ranks
from tests.training.stand_ins import GaussianData, context, gaussian_distillation

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself

BATCH = 64


CASES = {
    "compiled": (RealUID(target=Velocity(), alpha=0.92, beta=0.94), FSDP(), Compute(compile="default")),
    # Weights stay whole after a pass, and the generator's step differentiates neither teacher nor fake network.
    "whole after a pass": (DiffInstruct(target=Data()), FSDP(reshard=False), Compute()),
    "samples seen again": (RealUID(target=Velocity(), alpha=0.92, beta=0.94), FSDP(), Compute()),
}

SEEN = {"samples seen again": 2}
"""How many updates see the same samples, and at how many times the generator's does."""


def weights_after(
    steps: int, world: World, loss: DistillationLoss, parallelism: Parallelism, compute: Compute, seen: int = 1
) -> torch.Tensor:
    """Of student and fake network, all of them."""
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=loss,
        time_sampler=UniformTime(),
        images=10_000,
        fake_steps=2,
        steps_per_sample=seen,
        times_per_sample=seen,
    )
    made.student.model.network = MLP(shape=(2,), width=64, depth=2)
    lanes = 2 // world.size
    own = Randomness(seed=0, lanes=2, device=world.device, own=range(world.rank * lanes, (world.rank + 1) * lanes))
    made.start(
        replace(
            context(BATCH, GaussianData(256)), world=world, parallelism=parallelism, compute=compute, randomness=own
        )
    )
    for index in range(steps):
        made.step(index)
    return torch.cat([whole(p.detach()).flatten() for net in (made.student, made.fake) for p in net.parameters()])


GRAPHS = []
"""All graphs that were captured."""


def _counting(graph, inputs):
    GRAPHS.append(graph)
    return aot_eager(graph, inputs)


def _one_of_two(out: Path, case: str) -> None:
    compiler = torch.compile
    torch.compile = lambda run, mode, **how: compiler(run, backend=_counting, fullgraph=True, **how)
    world = World.join("cpu", 120.0)
    try:
        weights = weights_after(3, world, *CASES[case], seen=SEEN.get(case, 1))
        assert case != "compiled" or len(GRAPHS) >= 4  # two blocks of the student and of the fake network
        if world.main:
            torch.save(weights, out)
    finally:
        world.leave()


@pytest.mark.parametrize(
    "case", ["whole after a pass", "samples seen again", pytest.param("compiled", marks=pytest.mark.slow)]
)
def test_two_processes_take_the_steps_of_a_plain_one(case, tmp_path):
    assert ranks.run(2, _one_of_two, tmp_path / "weights.pt", case) == [0, 0]
    plain = weights_after(3, World(torch.device("cpu")), CASES[case][0], DDP(), Compute(), SEEN.get(case, 1))
    found = torch.load(tmp_path / "weights.pt")
    rounding = 1e-4 if case in SEEN else 1e-6  # an update is a hundredth
    assert found.tolist() == pytest.approx(plain.tolist(), rel=1e-4, abs=rounding)
