"""The dry run's arithmetic against an independent count for the paper's CIFAR network (12.44 GFLOP a forward pass).

A fake step of RealUID with as many real as generated samples is 7 passes' worth (one of the generator, two forward and
four backward), of UID 4; the generator's step is 7, as teacher and fake are differentiated in their inputs only. The
first convolution's input needs no gradient when weights are trained, hence a little less.
"""

from collections.abc import Callable

import pytest
import torch

from realuid.benchmarks.meters import Counted
from realuid.interpolants import LinearInterpolant
from realuid.losses import RealUID
from realuid.networks.unet import UNet
from realuid.samplers import Euler, UniformGrid
from realuid.students import OneStep
from realuid.targets import Velocity
from realuid.teachers import Teacher
from realuid.time_samplers import UniformTime
from realuid.training.costs import BYTES, costs
from realuid.training.distillation import Distillation
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, ConstantRate
from realuid.training.procedure import Context
from realuid.training.randomness import Randomness
from realuid.weights import UnitWeight
from tests.training.stand_ins import GaussianData, matching_model

BATCH = 2
META = torch.device("meta")


def paper(alpha: float, beta: float) -> Distillation:
    """The paper's networks: 128 channels, multipliers 1, 2, 2, 2, attention at 16x16."""

    def network() -> UNet:
        with META:
            return UNet(shape=(3, 32, 32))

    return distillation(network, alpha, beta)


def distillation(network: Callable[[], UNet], alpha: float, beta: float) -> Distillation:
    def model():
        return matching_model(network(), LinearInterpolant(), Velocity())

    adam = {"lr": 3e-5, "rate": ConstantRate()}
    return Distillation(
        teacher=Teacher(model=model(), sampler=Euler(steps=100, grid=UniformGrid()), checkpoint="none"),
        student=OneStep(model=model()),
        fake=model(),
        loss=RealUID(target=Velocity(), alpha=alpha, beta=beta),
        time_sampler=UniformTime(),
        weight=UnitWeight(),
        student_optimizer=Adam(**adam),
        fake_optimizer=Adam(**adam),
        ema=EMA(decays=(0.999, 0.9999)),
        real_batch=BATCH,
    )


def context(device: torch.device = META, side: int = 32) -> Context:
    randomness = Randomness(seed=0, lanes=1, device=device)
    return Context(device, BATCH, (3, side, side), GaussianData(100), torch.zeros(0, device=device), randomness)


@pytest.mark.parametrize(("alpha", "beta", "fake"), [(0.92, 0.94, 87.1e9), (1.0, 1.0, 49.8e9)])
def test_the_step_of_the_paper(alpha, beta, fake):
    bill = costs(paper(alpha, beta), context())
    assert bill.parameters == dict.fromkeys(("student", "fake", "teacher"), 35_746_307)
    assert bill.passes["fake"][0] == 5
    assert bill.passes["fake"][1] / BATCH == pytest.approx(fake, rel=0.01)
    assert bill.passes["generator"][1] / BATCH == pytest.approx(87.8e9, rel=0.01)
    assert bill.flops == 5 * bill.passes["fake"][1] + bill.passes["generator"][1]
    # three networks, gradients and two moments of two of them, two averages
    assert bill.weights == BYTES * 35_746_307 * (3 + 2 * 3 + 2)


def test_activations_grow_with_the_batch_and_weights_are_not_counted_among_them():
    """About 52 MB an image and graph in float32; the generator's step holds three graphs."""
    bill = costs(paper(1.0, 1.0), context())
    assert bill.activations / BATCH == pytest.approx(3 * 52e6, rel=0.15)


@pytest.mark.parametrize("width", [16, 32])
def test_what_is_estimated_is_what_tensors_come_to(width):
    """The bytes of all tensors alive at once in the generator's step, counted as they come and go, but for its
    gradients, which the estimate has among the weights."""

    def small() -> Distillation:
        return distillation(lambda: UNet(shape=(3, 16, 16), width=width, multipliers=(1, 2), blocks=1), 0.92, 0.94)

    bill = costs(small(), context(side=16))
    _, generator_step = small().passes(context(torch.device("cpu"), side=16))["generator"]
    with Counted() as counted:
        generator_step().backward()
    measured = counted.take_bytes()
    assert bill.activations == pytest.approx(measured, rel=0.15)
