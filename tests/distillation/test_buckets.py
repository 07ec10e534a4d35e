"""Steps of several sizes: what they draw and read, processes, resumption, and the laws that are learnt."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from realuid.conditions import LABEL, Condition, Field, class_label
from realuid.data.buckets import Buckets
from realuid.data.dataset import Batch
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teacher_training import TeacherTraining
from realuid.distillation.teachers import Teacher
from realuid.distillation.warm_start import WarmStart
from realuid.losses import RealUID
from realuid.networks.base import Network
from realuid.networks.dit import DiT
from realuid.networks.unet import UNet
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.compute import Compute
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, CosineLR
from realuid.training.randomness import Randomness
from realuid.training.trainer import Trainer
from realuid.training.world import World
from tests import ranks
from tests.training.stand_ins import GaussianData, context, matching_model

LAWS = {(1, 2, 4): (0.8, 0.3), (1, 4, 2): (-0.5, 0.6)}
"""Mean and deviation of the values of each size."""
COUNTS = {(1, 2, 4): 300, (1, 4, 2): 100}
BATCH, LANES = 16, 4
DEVICE = torch.device("cpu")


class Values(GaussianData):
    """Pictures of independent normal values, standardised, and what was asked of them."""

    def __init__(self, shape, classes=0):
        mean, deviation = LAWS[shape]
        values = torch.randn(COUNTS[shape], *shape, generator=torch.Generator().manual_seed(1))
        values = (values - values.mean()) / values.std()
        self.vectors, self.shape, self.classes, self.asked = mean + deviation * values, shape, classes, []

    def open(self, *, seed, device):
        self.seed = seed

    @property
    def label_counts(self):
        return torch.tensor([0, len(self)] if self.shape[1] == 2 else [len(self), 0])[: self.classes]

    def batch(self, start, count):
        self.asked.append((start, count))
        return super().batch(start, count)


def buckets(*, classes=0):
    data = Buckets(sets=tuple(Values(shape, classes) for shape in LAWS))
    data.open(seed=3, device=DEVICE)
    return data


class PerValue(Network):
    """The same perceptron for every value, which is told the time and the ratio of the sides."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 1), nn.SiLU(), nn.Conv2d(64, 64, 1), nn.SiLU(), nn.Conv2d(64, 1, 1)
        )

    def forward(self, x, time, condition):
        beside = torch.stack([time, torch.full_like(time, x.shape[2] / x.shape[3] - 1)], dim=1)[..., None, None]
        return self.layers(torch.cat([x, beside.to(x.dtype).expand(-1, -1, *x.shape[2:])], dim=1))


def training(images):
    return TeacherTraining(
        model=matching_model(PerValue(), LinearInterpolant(), Velocity()),
        sampler=Euler(steps=25, grid=UniformGrid()),
        time_sampler=UniformTime(),
        weight=UnitWeight(),
        optimizer=Adam(lr=1e-2, lr_schedule=CosineLR(images=images)),
        ema=EMA(decays=(0.95,)),
    )


@pytest.fixture(name="weights", scope="module")
def _weights(tmp_path_factory) -> str:
    """A teacher of random weights: what matters is what steps are."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.manual_seed(3)
    torch.save(PerValue().float().state_dict(), path)
    return str(path)


def distillation(weights, **changes):
    loss, path = RealUID(target=Velocity(), alpha=0.9, beta=0.95), LinearInterpolant()
    rate = CosineLR(images=10_000)
    teacher = Teacher(
        model=matching_model(PerValue(), path, Velocity()),
        sampler=Euler(steps=2, grid=UniformGrid()),
        checkpoint=weights,
    )
    arguments = {
        "teacher": teacher,
        "student": OneStep(model=matching_model(PerValue(), path, Velocity())),
        "fake": matching_model(PerValue(), path, Velocity()),
        "loss": loss,
        "time_sampler": UniformTime(),
        "weight": UnitWeight(),
        "student_optimizer": Adam(lr=1e-3, lr_schedule=rate),
        "fake_optimizer": Adam(lr=1e-3, lr_schedule=rate),
        "ema": EMA(decays=(0.9,)),
        "fake_steps": 3,
        "real_batch": 8,
        "student_init": "random",
        "fake_init": "random",
    }
    return Distillation(**(arguments | changes))


@pytest.mark.parametrize("seen", [1, 2])
def test_generated_and_real_samples_of_a_step_have_the_size_of_the_keyed_choice(seen, weights, monkeypatch):
    data, made, shapes = buckets(), distillation(weights, steps_per_sample=seen), []
    points = made.inputs.points

    def noted(share, substep, inputs, x1, *rest, **more):
        real = () if inputs.real is None else (tuple(inputs.real[0].shape[1:]),)
        shapes.append((tuple(x1.shape[1:]), tuple(inputs.x0.shape[1:]), *real))
        return points(share, substep, inputs, x1, *rest, **more)

    monkeypatch.setattr(made.inputs, "points", noted)
    made.start(context(BATCH, data, lanes=LANES))
    reads = dict.fromkeys(LAWS, 0)
    for step in range(12):
        shapes.clear()
        one, place = data.of_step(step)
        asked = len(one.asked)
        made.step(step)
        assert len(shapes) == 4
        assert {shape for update in shapes for shape in update} == {one.shape}
        # K batches of real images a step, and no image is left out or seen twice.
        assert one.asked[asked:] == [((place * 3 + k) * 8, 8) for k in range(3)]
        reads[one.shape] += 3
    assert [len(one.asked) for one in data.sets] == list(reads.values())
    assert all(reads.values())


def test_a_warm_start_reads_the_steps_own_set(weights):
    data = buckets()
    made = distillation(weights, warm_start=WarmStart(images=5 * BATCH, lr=1e-3))
    made.start(context(BATCH, data, lanes=LANES))
    for step in range(6):
        made.step(step)
    homes = [data.of_step(step) for step in range(5)]
    for one in data.sets:
        read = [place for home, place in homes if home is one]
        assert one.asked[: len(read)] == [(place * BATCH, BATCH) for place in read]


def test_labels_are_drawn_by_the_frequencies_of_the_steps_own_set():
    data = buckets(classes=2)
    start = context(BATCH, data)
    for step in range(8):
        own = start.of_step(step)
        assert set(own.drawn_condition(step)[LABEL].tolist()) == {1 if own.shape[1] == 2 else 0}
    prompts = Values((1, 2, 4), 2)
    asked = replace(start, prompts=prompts, frequencies=prompts.label_counts.float())
    assert {int(label) for step in range(8) for label in asked.of_step(step).drawn_condition(step)[LABEL]} == {1}


def test_frequencies_are_brought_to_the_device_once():
    data = buckets(classes=2)
    start, seen = context(BATCH, data), {}
    for step in range(8):
        own = start.of_step(step)
        assert seen.setdefault(own.data, own.frequencies) is own.frequencies
        assert own.frequencies.tolist() == own.data.label_counts.tolist()
    assert len(seen) == 2


class Told(Values):
    """With a field beside the label: conditions are drawn by position."""

    @property
    def conditions(self):
        return (*class_label(self.classes), Field("image", (1,)))

    def condition_batch(self, start, count):
        return Condition({"image": torch.arange(start, start + count)[:, None].float()})

    def batch(self, start, count):
        return Batch(super().batch(start, count).images, self.condition_batch(start, count))


def test_conditions_of_generated_samples_follow_the_sets_own_order(weights):
    """Of each set they are the next ones of what it gave before."""
    data, made = Buckets(sets=tuple(Told(shape) for shape in LAWS)), distillation(weights)
    data.open(seed=3, device=DEVICE)
    start = context(BATCH, data)
    expected = dict.fromkeys(LAWS, 0)
    for step in range(10):
        own = start.of_step(step)
        drawn = []
        for update in made.updates.of_fake(own, made.inputs, lambda share, inputs: inputs.x0, step, False):
            drawn += [int(inputs.condition["image"][0]) for _, inputs, _ in update]
        drawn += [int(inputs.condition["image"][0]) for _, inputs in made.updates.of_generator(own, made.inputs, step)]
        assert drawn == [expected[own.shape] + BATCH * k for k in range(4)]
        expected[own.shape] += 4 * BATCH


def test_micro_batches_are_one_batch(weights):
    found = []
    for parts in (1, 2):
        made = distillation(weights)
        made.start(replace(context(BATCH, buckets(), lanes=LANES), parts=parts))
        found.append(run(made, 4))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def run(made, steps, first=0):
    for step in range(first, steps):
        made.step(step)
    return torch.cat([p.detach().flatten() for p in made.student.parameters()])


def test_a_resumed_run_is_the_same(weights):
    whole, one, two = (distillation(weights) for _ in range(3))
    for made in (whole, one, two):
        made.start(context(BATCH, buckets(), lanes=LANES))
    expected = run(whole, 9)
    run(one, 4)
    for optimizer in two.optimizers().values():
        optimizer.materialise()
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(run(two, 9, first=4), expected)


class OfOneBlock(PerValue):
    """The perceptron as a block, which is what is compiled."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([self.layers])

    def forward(self, x, time, condition):
        beside = torch.stack([time, torch.full_like(time, x.shape[2] / x.shape[3] - 1)], dim=1)[..., None, None]
        return self.layers[0](torch.cat([x, beside.to(x.dtype).expand(-1, -1, *x.shape[2:])], dim=1))


@pytest.mark.slow
def test_blocks_are_compiled_once_a_size(tmp_path, monkeypatch):
    """As often as for each size alone, and no more however long the run is; beyond torch's limit it is an error."""
    torch.save(OfOneBlock().state_dict(), tmp_path / "teacher.pt")
    monkeypatch.setattr("tests.distillation.test_buckets.PerValue", OfOneBlock)
    compiler, seen = torch.compile, []

    def counted(graph, inputs):
        seen.append(1)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda run, mode, **how: compiler(run, backend=counted, **how))

    def compilations(data, limit):
        torch._dynamo.reset()
        seen.clear()
        data.open(seed=3, device=DEVICE)
        made = distillation(str(tmp_path / "teacher.pt"))
        monkeypatch.setattr("realuid.training.compute.VARIANTS", limit)
        limits = {"recompile_limit": 1, "accumulated_recompile_limit": 1, "fail_on_recompile_limit_hit": True}
        with torch._dynamo.config.patch(**limits):
            made.start(replace(context(BATCH, data, lanes=LANES), compute=Compute(compile="default")))
            run(made, 6)
            first = len(seen)
            run(made, 12, first=6)
        assert len(seen) == first
        return first

    alone = [compilations(Values(shape), 16) for shape in LAWS]
    blocks = 3
    assert compilations(buckets(), -(-max(alone) // blocks)) == sum(alone)


def weights_after(steps, world, weights):
    own = range(world.rank * LANES // world.size, (world.rank + 1) * LANES // world.size)
    randomness = Randomness(seed=0, lanes=LANES, device=DEVICE, own=own)
    made = distillation(weights)
    made.start(replace(context(BATCH, buckets(), lanes=LANES), world=world, randomness=randomness))
    return run(made, steps)


def _one(out: Path, weights: str) -> None:
    torch.set_default_dtype(torch.float64)
    world = World.join("cpu", 120.0)
    try:
        found = weights_after(5, world, weights)
        if world.main:
            torch.save(found, out)
    finally:
        world.leave()


@pytest.mark.xdist_group("processes")
def test_two_processes_take_the_steps_of_one(tmp_path, weights):
    assert ranks.run(2, _one, tmp_path / "weights.pt", weights) == [0, 0]
    torch.set_default_dtype(torch.float64)
    try:
        plain = weights_after(5, World(DEVICE), weights)
    finally:
        torch.set_default_dtype(torch.float32)
    found = torch.load(tmp_path / "weights.pt")
    assert float((found - plain).norm() / plain.norm()) < 1e-6


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (lambda: DiT(shape=(1, 2, 4), patch=2, width=16, depth=1, heads=2), "DiT takes samples of its own shape"),
        (lambda: UNet(shape=(1, 4, 4), width=8, multipliers=(1, 1, 1), attention=()), "sides are multiples of 4"),
    ],
)
def test_networks_that_do_not_take_every_size_are_refused_at_assembly(networks, words):
    method = training(100)
    method.model.network = networks()
    amounts = dict.fromkeys(("log_images", "sample_images", "checkpoint_images"), 64)
    with pytest.raises(ValueError, match=words):
        Trainer(method=method, data=buckets(), batch=64, images=64, **amounts)
    Trainer(method=training(100), data=buckets(), batch=64, images=64, **amounts)
    with pytest.raises(ValueError, match="prompts = @Buckets"):
        Trainer(method=training(100), data=buckets(), prompts=buckets(), batch=64, images=64, **amounts)


@pytest.mark.slow
def test_two_sizes_are_learnt():
    """One network learns the law of either set: the values' mean and deviation, known in closed form."""
    steps, batch, data = 300, 64, buckets()
    made = training(steps * batch)
    made.start(context(batch, data))
    for step in range(steps):
        made.step(step)
    for one in data.sets:  # each in the chain of its own epochs
        assert one.asked == [(place * batch, batch) for place in range(len(one.asked))]
    teacher = made.generators()["teacher"]
    for shape, (mean, deviation) in LAWS.items():
        x0 = torch.randn(2000, *shape, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            found = teacher(x0, Condition(), lambda k: pytest.fail("noise was drawn"))
        assert abs(found.mean() - mean) < 0.06, shape
        assert abs(found.std() - deviation) < 0.06, shape
