"""Two real processes (gloo), each with half of the weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from realuid.interpolants import LinearInterpolant
from realuid.losses import DiffInstruct, DistillationLoss, RealUID
from realuid.networks.mlp import MLP
from realuid.targets import Data, Velocity
from realuid.time_samplers import UniformTime
from realuid.training.compute import Compute
from realuid.training.distribution import Distribution, Replicated, Sharded, whole
from realuid.training.randomness import Randomness
from realuid.training.world import World
from tests import ranks
from tests.training.stand_ins import GaussianData, context, gaussian_distillation

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself

BATCH = 64


CASES = {
    "compiled": (RealUID(target=Velocity(), alpha=0.92, beta=0.94), Sharded(), Compute(compile="default")),
    # Weights stay whole after a pass, and the generator's step differentiates neither teacher nor fake network.
    "whole after a pass": (DiffInstruct(target=Data()), Sharded(reshard=False), Compute()),
}


def weights_after(
    steps: int, world: World, loss: DistillationLoss, distribution: Distribution, compute: Compute
) -> torch.Tensor:
    """Of student and fake network, all of them."""
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=loss,
        time_sampler=UniformTime(),
        images=10_000,
        fake_steps=2,
    )
    made.student.model.network = MLP(shape=(2,), width=64, depth=2)
    lanes = 2 // world.size
    own = Randomness(seed=0, lanes=2, device=world.device, own=range(world.rank * lanes, (world.rank + 1) * lanes))
    made.start(
        replace(
            context(BATCH, GaussianData(256)), world=world, distribution=distribution, compute=compute, randomness=own
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
        weights = weights_after(3, world, *CASES[case])
        assert case != "compiled" or len(GRAPHS) >= 4  # two blocks of the student and of the fake network
        if world.main:
            torch.save(weights, out)
    finally:
        world.leave()


@pytest.mark.parametrize("case", ["whole after a pass", pytest.param("compiled", marks=pytest.mark.slow)])
def test_two_processes_take_the_steps_of_a_plain_one(case, tmp_path):
    assert ranks.run(2, _one_of_two, tmp_path / "weights.pt", case) == [0, 0]
    plain = weights_after(3, World(torch.device("cpu")), CASES[case][0], Replicated(), Compute())
    found = torch.load(tmp_path / "weights.pt")
    assert found.tolist() == pytest.approx(plain.tolist(), rel=1e-4, abs=1e-6)
