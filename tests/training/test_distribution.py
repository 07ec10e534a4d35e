"""Two real processes (gloo), each with half of the weights, whose blocks were compiled before they were sharded."""

import os
import socket
from dataclasses import replace

import pytest
import torch
from torch import multiprocessing
from torch._dynamo.backends.debugging import aot_eager

from realuid.interpolants import LinearInterpolant
from realuid.losses import RealUID
from realuid.networks.mlp import MLP
from realuid.targets import Velocity
from realuid.time_samplers import UniformTime
from realuid.training.compute import Compute
from realuid.training.distribution import Sharded, whole
from realuid.training.randomness import Randomness
from realuid.training.world import World
from tests.training.stand_ins import GaussianData, context, gaussian_distillation

pytestmark = pytest.mark.xdist_group("processes")  # one at a time: each wants the cores to itself

BATCH = 64


def weights_after(steps: int, world: World, compute: Compute) -> torch.Tensor:
    """Of student and fake network, all of them."""
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        images=10_000,
        fake_steps=2,
    )
    made.student.model.network = MLP(shape=(2,), width=64, depth=2)
    lanes = 2 // world.size
    own = Randomness(seed=0, lanes=2, device=world.device, own=range(world.rank * lanes, (world.rank + 1) * lanes))
    made.start(
        replace(context(BATCH, GaussianData(256)), world=world, distribution=Sharded(), compute=compute, randomness=own)
    )
    for index in range(steps):
        made.step(index)
    return torch.cat([whole(p.detach()).flatten() for net in (made.student, made.fake) for p in net.parameters()])


GRAPHS = []
"""All graphs that were captured."""


def _counting(graph, inputs):
    GRAPHS.append(graph)
    return aot_eager(graph, inputs)


def _one_of_two(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    compiler = torch.compile
    torch.compile = lambda run, mode, **how: compiler(run, backend=_counting, fullgraph=True, **how)
    world = World.join("cpu", 120.0)
    try:
        weights = weights_after(3, world, Compute(compile="default"))
        assert len(GRAPHS) >= 4  # two blocks of the student and of the fake network
        if world.main:
            torch.save(weights, out)
    finally:
        world.leave()


def test_compiled_and_sharded_blocks_take_the_steps_of_a_plain_process(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_one_of_two, (port, str(tmp_path / "weights.pt")), nprocs=2)
    plain = weights_after(3, World(torch.device("cpu")), Compute())
    found = torch.load(tmp_path / "weights.pt")
    assert found.tolist() == pytest.approx(plain.tolist(), rel=1e-4, abs=1e-6)
