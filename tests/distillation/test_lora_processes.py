"""Adapters on one base in several real processes (gloo): whole copies, shards, and copies of shards."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from realuid.conditions import Condition, Field
from realuid.data.dataset import Batch
from realuid.networks.base import Network
from realuid.networks.lora import own_parameters
from realuid.training.parallelism import DDP, FSDP, Parallelism, whole
from realuid.training.randomness import Randomness
from realuid.training.world import World
from tests import ranks
from tests.distillation.test_lora import BATCH, DATA, distillation, lora, mlp
from tests.extras import needs_peft
from tests.training.stand_ins import GaussianData, context

# one at a time: each wants the cores to itself
pytestmark = [pytest.mark.xdist_group("processes"), needs_peft]

LANES = 4
WAYS = {
    "2 copies": (2, DDP(), "float32"),
    "2 shards": (2, FSDP(), "float32"),
    "2 shards, base in bfloat16": (2, FSDP(), "bfloat16"),
    "2 copies of 2 shards": (4, FSDP(shards=2), "float32"),
}


@pytest.fixture(name="teacher", scope="module")
def _teacher(tmp_path_factory) -> str:
    """A checkpoint of random weights."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.manual_seed(3)
    torch.save(mlp().state_dict(), path)
    return str(path)


class TextMLP(Network):
    """A perceptron that is told the mean of the tokens that the mask names."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = (2,)
        self.conditions = (Field("text", (3, 4)), Field("mask", (3,), "bool"))
        self.into, self.out = nn.Linear(7, 48), nn.Linear(48, 2)
        self.layers = nn.ModuleList(nn.Linear(48, 48) for _ in range(2))

    def forward(self, x, time, condition):
        mask = condition["mask"].to(x.dtype)[..., None]
        told = (condition["text"].to(x.dtype) * mask).sum(1) / mask.sum(1).clamp(min=1)
        hidden = self.into(torch.cat([x, time.to(x.dtype)[:, None], told], dim=1))
        for layer in self.layers:
            hidden = hidden + torch.nn.functional.silu(layer(hidden))
        return self.out(hidden)


class TextData(GaussianData):
    """Vectors with embeddings of a text each, of different lengths, by their place."""

    @property
    def conditions(self) -> tuple[Field, ...]:
        return TextMLP().conditions

    def told(self, start: int, count: int) -> Condition:
        rows = torch.arange(start, start + count) % len(self)
        text = torch.sin(rows[:, None, None] * torch.arange(1, 13).view(3, 4)).to(torch.bfloat16)
        return Condition({"text": text, "mask": torch.arange(3) <= (rows % 3)[:, None]})

    condition_batch = condition_examples = told

    def batch(self, start: int, count: int) -> Batch:
        return Batch(super().batch(start, count).images, self.told(start, count))


NETWORKS = {"alone": (mlp, DATA), "with text": (TextMLP, TextData(256))}


def weights_after(
    steps: int, world: World, teacher: str, parallelism: Parallelism, storage: str, told: str = "alone", pause: int = 1
) -> torch.Tensor:
    """Of student, fake network and the student's average, the adapters; resumed after the step `pause`, if there is
    one."""

    base, vectors = NETWORKS[told]
    data = copy.copy(vectors)
    data.vectors = vectors.vectors.to(torch.get_default_dtype())

    def started():
        made = distillation(teacher, lora(), lora(), storage=storage, base=base)
        own = range(world.rank * LANES // world.size, (world.rank + 1) * LANES // world.size)
        randomness = Randomness(seed=0, lanes=LANES, device=world.device, own=own)
        made.start(replace(context(BATCH, data), world=world, parallelism=parallelism, randomness=randomness))
        return made

    made = started()
    for index in range(steps):
        made.step(index)
        if index + 1 == pause:
            states = made.state_dict(), made.ema.state_dict()
            made = started()
            for optimizer in made.optimizers().values():
                optimizer.materialise()
            made.load_state_dict(states[0])
            made.ema.load_state_dict(states[1])
    _check_base(made, world)
    networks = made.student, made.fake, made.ema.averaged()
    return torch.cat([whole(p.detach()).flatten() for net in networks for p in own_parameters(net)])


def _check_base(made, world: World) -> None:
    """A process holds the base's shards once: the very storages, unless their rows do not divide."""
    if not made.parallelism.shards(world):
        return

    def storages(network) -> dict[int, int]:
        locals = [p.to_local() for p in network.parameters() if isinstance(p, torch.distributed.tensor.DTensor)]
        return {local.untyped_storage().data_ptr(): local.untyped_storage().nbytes() for local in locals}

    base = storages(made.teacher.model)
    own = sum(p.to_local().nbytes for p in own_parameters(made.student))
    assert sum((base | storages(made.student)).values()) - sum(base.values()) <= 1.2 * own


def _one(out: Path, teacher: str, way: str, told: str = "alone", pause: int = 1) -> None:
    torch.set_default_dtype(torch.float64)
    _, parallelism, storage = WAYS[way]
    world = World.join("cpu", 120.0)
    try:
        weights = weights_after(3, world, teacher, parallelism, storage, told, pause)
        if world.main:
            torch.save(weights, out)
    finally:
        world.leave()


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=() if way == "2 shards, base in bfloat16" else pytest.mark.slow) for way in WAYS]
)
def test_several_processes_take_the_steps_of_one(way, tmp_path, teacher):
    size, _, storage = WAYS[way]
    assert ranks.run(size, _one, tmp_path / "weights.pt", teacher, way) == [0] * size
    torch.set_default_dtype(torch.float64)
    try:
        plain = weights_after(3, World(torch.device("cpu")), teacher, DDP(), storage)
    finally:
        torch.set_default_dtype(torch.float32)
    found = torch.load(tmp_path / "weights.pt")
    assert len(plain) > 1000
    assert float((found - plain).norm() / plain.norm()) < 1e-6  # averages are float32


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_adapters_that_are_told_texts(way, tmp_path):
    """Several processes end where one does, and resumed ones, bit for bit, where uninterrupted ones do."""
    size, _, storage = WAYS[way]
    torch.manual_seed(3)
    teacher = str(tmp_path / "teacher.pt")
    torch.save(TextMLP().state_dict(), teacher)
    for pause in (0, 1):
        out = tmp_path / f"{pause}.pt"
        assert ranks.run(size, _one, out, teacher, way, "with text", pause) == [0] * size
    found, resumed = torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")
    assert torch.equal(found, resumed)
    torch.set_default_dtype(torch.float64)
    try:
        plain = weights_after(3, World(torch.device("cpu")), teacher, DDP(), storage, "with text", 0)
        assert not torch.equal(
            plain, weights_after(2, World(torch.device("cpu")), teacher, DDP(), storage, "with text")
        )
    finally:
        torch.set_default_dtype(torch.float32)
    assert float((found - plain).norm() / plain.norm()) < 1e-6  # averages are float32
