"""The device that is not there sees what is planted in a step, and lets a clean step pass."""

from dataclasses import replace

import pytest
import torch

from realuid.conditions import Condition
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import BackwardSimulation
from realuid.losses import RealUID
from realuid.networks.mlp import MLP
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.training.compute import Compute
from realuid.training.randomness import Randomness
from realuid.training.world import World
from tests.training.fake_cuda import CUDA, FakeCuda, HostWork
from tests.training.recipes_on_cuda import Streamed
from tests.training.stand_ins import GaussianData, context, gaussian_distillation, matching_model

HERE = torch.ones(64, 2)
PLANTS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.mean()),
    "bool": lambda x: bool((x > 0).any()),
    "tolist": lambda x: x[0].tolist(),
    "to the host": lambda x: x.cpu(),
    "into the host's memory": lambda x: HERE.copy_(x.detach()),
    "from a list": lambda x: x * torch.tensor([1.0, 2.0], device=x.device),
    "from the host": lambda x: x * HERE.to(x.device),
    "from the host, unpinned": lambda x: x * HERE.to(x.device, non_blocking=True),
    "a tensor of the CPU": lambda x: x + HERE,
    "rows by a tensor of the CPU": lambda x: x[torch.arange(4)],
    "rows by a mask": lambda x: x[x.sum(1) > 0],
    "nonzero": lambda x: x.nonzero(),
}
HARMLESS = {
    "a number": lambda x: x * 2.5,
    "a number as a tensor": lambda x: x * torch.tensor(2.5),
    "on the device": lambda x: x * torch.arange(2, device=x.device),
    "pinned": lambda x: x * HERE.pin_memory().to(x.device, non_blocking=True),
    "on the host": lambda x: HERE.sum().item() * x,
}


def distillation() -> Distillation:
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        images=10_000,
        fake_steps=1,
    )
    made.student.model.network = MLP(shape=(2,), width=16, depth=1)
    return made


def step(plant) -> list[str]:
    """Takes a step with something planted in the fake network's or the generator's loss."""
    made = distillation()
    data = Streamed(GaussianData(64))
    with FakeCuda() as cuda:
        data.open(seed=0, device=CUDA)
        randomness = Randomness(seed=0, lanes=1, device=CUDA)
        there = replace(context(64, data), device=CUDA, randomness=randomness, frequencies=torch.zeros(0, device=CUDA))
        made.teacher.model.to(CUDA)
        made.start(replace(there, world=World(CUDA), compute=Compute(regression="bfloat16")))
        planted, loss = [], made.loss.generator_loss

        def generator_loss(terms):
            planted.append(True)
            plant(terms.fake)
            return loss(terms)

        made.loss.generator_loss = generator_loss
        with cuda.watched() as watch:
            made.step(0)
        assert planted
        watch.check()
    return watch.copies


@pytest.mark.parametrize("name", PLANTS)
def test_what_makes_a_host_wait_is_found(name):
    with pytest.raises(HostWork, match="test_fake_cuda"):
        step(PLANTS[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_is_let_pass(name):
    copies = step(HARMLESS[name])
    assert len(copies) == 2 + (name == "pinned")  # images, sources, and what is planted


def test_a_few_steps_that_are_trained_one_at_a_time_wait_for_nothing():
    student = BackwardSimulation(
        model=matching_model(MLP(shape=(2,), width=16, depth=1), LinearInterpolant(), Data()), times=(0.0, 0.5)
    )
    with FakeCuda() as cuda:
        student.to(CUDA)
        x0 = torch.zeros(8, 2, device=CUDA)
        with cuda.watched() as watch:
            x1 = student.trained_on(x0, Condition(), lambda k: torch.randn_like(x0), lambda: torch.rand(8, device=CUDA))
        x1.sum().backward()
    watch.check()


def test_autocast_casts_what_is_differentiated_and_what_is_not():
    layer, x = torch.nn.Linear(2, 3), torch.ones(4, 2)
    with FakeCuda() as cuda, cuda.watched() as watch:
        layer.to(CUDA)
        with torch.autocast("cuda", torch.bfloat16):
            out = layer(layer(x.pin_memory().to(CUDA, non_blocking=True)).relu()[:, :2])
        assert out.dtype == torch.bfloat16
        out.float().sum().backward()
        assert layer.weight.grad.dtype == torch.float32
        assert layer.weight.grad.device == CUDA
    assert {dtype for dtype, _, _ in watch.products} == {torch.bfloat16}
