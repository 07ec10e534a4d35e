"""The dry run's arithmetic against an independent count for the paper's CIFAR network (12.44 GFLOP a forward pass).

A fake step of RealUID with as many real as generated samples is 7 passes' worth (one of the generator, two forward and
four backward), of UID 4; the generator's step is 7, as teacher and fake are differentiated in their inputs only. The
first convolution's input needs no gradient when weights are trained, hence a little less.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from realuid.benchmarks.meters import Counted
from realuid.conditions import Condition
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teachers import Teacher
from realuid.losses import RealUID
from realuid.networks.dit import DiT
from realuid.networks.lora import LoRA
from realuid.networks.unet import UNet
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.compute import Compute
from realuid.training.costs import BYTES, costs, counted_on
from realuid.training.ema import EMA
from realuid.training.method import Context
from realuid.training.optimizers import Adam, ConstantLR
from realuid.training.randomness import Randomness
from tests.extras import needs_peft
from tests.training.stand_ins import GaussianData, matching_model

BATCH = 2
META = torch.device("meta")


def paper(alpha: float, beta: float) -> Distillation:
    """The paper's networks: 128 channels, multipliers 1, 2, 2, 2, attention at 16x16."""

    def network() -> UNet:
        with META:
            return UNet(shape=(3, 32, 32))

    return distillation(network, alpha, beta)


def distillation(network: Callable[[], UNet], alpha: float, beta: float, **changes) -> Distillation:
    def model():
        return matching_model(network(), LinearInterpolant(), Velocity())

    adam = {"lr": 3e-5, "lr_schedule": ConstantLR()}
    settings = {
        "teacher": Teacher(model=model(), sampler=Euler(steps=100, grid=UniformGrid()), checkpoint="none"),
        "student": OneStep(model=model()),
        "fake": model(),
        "loss": RealUID(target=Velocity(), alpha=alpha, beta=beta),
        "time_sampler": UniformTime(),
        "weight": UnitWeight(),
        "student_optimizer": Adam(**adam),
        "fake_optimizer": Adam(**adam),
        "ema": EMA(decays=(0.999, 0.9999)),
        "real_batch": BATCH,
    }
    return Distillation(**(settings | changes))


def context(device: torch.device = META, side: int = 32) -> Context:
    randomness = Randomness(seed=0, lanes=1, device=device)
    return Context(device, BATCH, (3, side, side), GaussianData(100), None, torch.zeros(0, device=device), randomness)


@pytest.mark.parametrize(
    ("alpha", "beta", "fake"), [(0.92, 0.94, 87.1e9), pytest.param(1.0, 1.0, 49.8e9, marks=pytest.mark.slow)]
)
def test_the_step_of_the_paper(alpha, beta, fake):
    bill = costs(paper(alpha, beta), context())
    # About 52 MB an image and graph in float32; the generator's step holds three graphs.
    assert bill.activations / BATCH == pytest.approx(3 * 52e6, rel=0.15)
    assert bill.parameters == dict.fromkeys(("student", "fake", "teacher"), 35_746_307)
    assert bill.passes["fake"][0] == 5
    assert bill.passes["fake"][1] / BATCH == pytest.approx(fake, rel=0.01)
    assert bill.passes["generator"][1] / BATCH == pytest.approx(87.8e9, rel=0.01)
    assert bill.flops == 5 * bill.passes["fake"][1] + bill.passes["generator"][1]
    # three networks, gradients and two moments of two of them, two averages
    assert bill.weights == BYTES * 35_746_307 * (3 + 2 * 3 + 2)


SIXTH = 6
"""A batch of which one sample is a sixth."""


def wide() -> UNet:
    """Of few layers, so wide that the first, whose input needs no gradient, is a small part."""
    with META:
        return UNet(shape=(3, 16, 16), width=192, multipliers=(1,), blocks=1, attention=())


def forward_pass(batch: int) -> int:
    x, time = torch.zeros(batch, 3, 16, 16, device=META), torch.zeros(batch, device=META)
    with FlopCounterMode(display=False) as counter:
        wide()(x, time, Condition())
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, 29.5),  # five times 4 + 3/6, and 7
        ({"steps_per_sample": 5}, 25.5),
        pytest.param({"times_per_sample": 2}, 33.5, marks=pytest.mark.slow),
        pytest.param({"steps_per_sample": 2}, 27.5, marks=pytest.mark.slow),
        pytest.param({"steps_per_sample": 5, "times_per_sample": 2}, 29.5, marks=pytest.mark.slow),
    ],
)
def test_forward_passes_of_an_iteration(changes, passes):
    bill = costs(distillation(wide, 0.92, 0.94, real_batch=1, **changes), replace(context(side=16), batch=SIXTH))
    assert bill.flops / forward_pass(SIXTH) == pytest.approx(passes, rel=0.01)
    assert sum(count for kind, (count, _) in bill.passes.items() if kind != "generator") == 5


@pytest.mark.parametrize("kind", ["a U-Net with attention", "a transformer"])
def test_where_a_step_is_counted_changes_nothing(kind):
    def network():
        with META:
            if kind == "a transformer":
                return DiT(shape=(3, 16, 16), width=32, depth=2, heads=2, patch=4)
            return UNet(shape=(3, 16, 16), width=32, multipliers=(1, 2), blocks=1, attention=(1,))

    shapes, zeros = (
        costs(distillation(network, 0.92, 0.94), context(torch.device(name), side=16)) for name in ("meta", "cpu")
    )
    assert replace(shapes, activations=0) == replace(zeros, activations=0)
    assert shapes.flops > 0
    # Kernels of attention differ in the few numbers that they keep for each query.
    assert shapes.activations == pytest.approx(zeros.activations, rel=0.01)


def test_the_main_jobs_step_is_counted_on_zeros_and_the_papers_on_shapes_alone():
    made = distillation(wide, 0.92, 0.94)
    assert counted_on(made, BATCH, (3, 4, 4)).type == "cpu"
    assert counted_on(paper(0.92, 0.94), BATCH, (3, 32, 32)).type == "meta"
    assert counted_on(made, 10_000, (3, 16, 16)).type == "meta"


@needs_peft
def test_adapters_need_no_gradient_of_the_base():
    """Of UID: one pass of the generator and two in place of three of the fake network. Beside so many channels,
    adapters of rank 1 cost little."""
    with META:
        fake = matching_model(LoRA(rank=1), LinearInterpolant(), Velocity())
    adapted = costs(distillation(wide, 1.0, 1.0, fake=fake, fake_init="teacher"), context(side=16))
    assert adapted.passes["fake"][1] / forward_pass(BATCH) == pytest.approx(3, rel=0.03)
    assert adapted.passes["generator"][1] / forward_pass(BATCH) == pytest.approx(7, rel=0.03)
    assert adapted.parameters["fake"] < 0.02 * adapted.parameters["teacher"]


@pytest.mark.parametrize("width", [16, pytest.param(32, marks=pytest.mark.slow)])
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
    assert bill.activations == pytest.approx(measured, rel=0.03)


@pytest.mark.slow
def test_recomputed_blocks_are_counted_as_they_run():
    """Arithmetic, of steps whose blocks are really recomputed; they keep less."""

    def network() -> UNet:  # with little attention, whose operations are not counted on a CPU
        return UNet(shape=(3, 16, 16), width=32, multipliers=(1, 2), blocks=1, attention=())

    def small() -> Distillation:
        return distillation(network, 0.92, 0.94)

    def at(device: torch.device) -> Context:
        return replace(context(device, side=16), compute=Compute(recompute=True))

    bill, plain = costs(small(), at(META)), costs(small(), context(side=16))
    made, here = small(), at(torch.device("cpu"))
    passes = made.passes(here)
    here.compute.prepare(list(made.networks().values()), here.device)
    for kind, (_, step) in passes.items():
        # torch leaves out the last layer of a repeated block where nothing of it is kept.
        with set_checkpoint_early_stop(False), FlopCounterMode(display=False) as counter:
            step().backward()
        assert bill.passes[kind][1] == pytest.approx(counter.get_total_flops(), rel=0.02)
        assert plain.passes[kind][1] < bill.passes[kind][1] < 1.5 * plain.passes[kind][1]
    assert bill.activations < 0.7 * plain.activations
