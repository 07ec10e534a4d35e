"""Roles that are adapters of the teacher's network."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from realuid.conditions import Condition
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teachers import Teacher
from realuid.losses import RealUID
from realuid.networks.base import Network
from realuid.networks.lora import LoRA, own_parameters
from realuid.networks.mlp import MLP
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.compute import Compute
from realuid.training.costs import held
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, ConstantLR
from realuid.training.parallelism import DDP
from tests.extras import needs_peft
from tests.training.stand_ins import GaussianData, context, generator_loss, matching_model

pytestmark = needs_peft

BATCH, DATA = 32, GaussianData(256)


def mlp() -> MLP:
    return MLP(shape=(2,), width=64, depth=3)


def lora() -> LoRA:
    return LoRA(rank=4, alpha=8.0)


@pytest.fixture(name="teacher", scope="module")
def _teacher(tmp_path_factory) -> str:
    """A checkpoint of random weights."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.manual_seed(3)
    torch.save(mlp().state_dict(), path)
    return str(path)


def distillation(
    teacher: str, student: Network, fake: Network, *, storage="float32", start="teacher", target=None, noise=0, base=mlp
) -> Distillation:
    path, target = LinearInterpolant(), target or Velocity()
    rate = ConstantLR()
    return Distillation(
        teacher=Teacher(
            model=matching_model(base(), path, Velocity()),
            sampler=Euler(steps=4, grid=UniformGrid()),
            checkpoint=teacher,
            storage=storage,
        ),
        student=OneStep(model=matching_model(student, path, target), noise=noise),
        fake=matching_model(fake, path, target),
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        weight=UnitWeight(),
        student_optimizer=Adam(lr=1e-3, lr_schedule=rate),
        fake_optimizer=Adam(lr=1e-3, lr_schedule=rate),
        ema=EMA(decays=(0.9, 0.5)),
        fake_steps=2,
        real_batch=BATCH // 2,
        fake_init=start,
    )


def started(made: Distillation, compute: Compute | None = None) -> Distillation:
    made.start(replace(context(BATCH, DATA), compute=compute or Compute()))
    return made


def nudged(made: Distillation) -> Distillation:
    """With adapters that change something."""
    torch.manual_seed(5)
    for network in (made.student, made.fake):
        for parameter in own_parameters(network):
            nn.init.normal_(parameter, std=0.2)
    return made


def whole(made: Distillation) -> Distillation:
    """The same, with three networks of their own: the adapters merged into two of them."""
    other = copy.copy(made)
    copied = copy.deepcopy((made.student, made.fake, made.teacher.model))
    other.student, other.fake = copied[0], copied[1]
    other.student.model.network, other.fake.network = (
        role.network.merged() for role in (made.student.model, made.fake)
    )
    other.fake.requires_grad_(False)
    other.to(made.context)
    return other


@pytest.fixture(name="double")
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


WAYS = {"plain": Compute(), "recomputed": Compute(recompute=True), "compiled": Compute(compile="default")}


@pytest.mark.parametrize("way", ["plain", "recomputed", pytest.param("compiled", marks=pytest.mark.slow)])
def test_the_generators_gradient_is_that_of_three_whole_networks(way, teacher, double, monkeypatch):
    """Through student, teacher and fake at once, with gradients in A and B from those in the merged weights."""
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda run, mode, **how: compiler(run, backend="aot_eager", fullgraph=True, **how)
    )
    made = nudged(started(distillation(teacher, lora(), lora()), WAYS[way]))
    made.fake_network.train(False, made.parallelism)
    plain = whole(nudged(started(distillation(teacher, lora(), lora()))))
    generator_loss(made, 2).backward()
    plain.student.model.network.requires_grad_(True)
    generator_loss(plain, 2).backward()
    merged = dict(plain.student.model.network.named_modules())
    for name, layer in made.student.model.network.layers().items():
        gradient, factor = merged[name].weight.grad, 8.0 / 4
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.testing.assert_close(a.grad, factor * b.T @ gradient, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(b.grad, factor * gradient @ a.T, rtol=1e-10, atol=1e-10)
        assert bool(a.grad.any())
        assert bool(b.grad.any())
    assert all(p.grad is None for p in (*made.teacher.model.parameters(), *made.fake.parameters()))


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_without_its_adapters_a_role_is_the_teacher_bit_for_bit(teacher, storage):
    made = started(distillation(teacher, lora(), lora(), storage=storage))
    before = {name: value.clone() for name, value in made.teacher.model.state_dict().items()}
    x, t = torch.randn(5, 2), torch.rand(5)
    expected = made.teacher.model.network(x, t, Condition())
    assert torch.equal(made.student.model.network(x, t, Condition()), expected)  # B = 0
    for index in range(3):
        made.step(index)
    assert all(torch.equal(value, before[name]) for name, value in made.teacher.model.state_dict().items())
    for model in (made.student.model, made.fake):
        assert not torch.equal(model.network(x, t, Condition()), expected)
        for layer in model.network.layers().values():
            layer.enable_adapters(False)
        assert torch.equal(model.network(x, t, Condition()), expected)


def test_the_base_is_there_once(teacher):
    made = started(distillation(teacher, lora(), lora(), storage="bfloat16"))
    base = {p.data_ptr(): p for p in made.teacher.model.parameters()}
    for network in (made.student, made.fake, made.ema.averaged()):
        own = {id(p) for p in own_parameters(network)}
        assert all(p.data_ptr() in base for p in network.parameters() if id(p) not in own)
        assert {p.dtype for p in own_parameters(network)} == {torch.float32}
    assert {p.dtype for p in base.values() if p.ndim > 1} == {torch.bfloat16}


def test_a_full_role_starts_from_the_exact_weights_of_a_rounded_teacher(teacher):
    made = started(distillation(teacher, lora(), mlp(), storage="bfloat16"))
    assert made.fake.network.into.weight.dtype == torch.float32
    assert torch.equal(made.fake.network.into.weight, torch.load(teacher)["into.weight"])
    assert torch.equal(made.fake.network.into.weight.bfloat16(), made.teacher.model.network.into.weight)
    made.step(0)


@pytest.mark.parametrize("roles", ["both", "student", "fake"])
def test_a_resumed_run_goes_on_bit_for_bit(teacher, roles):
    """Twice: what is loaded is saved again. The state holds adapters alone, of the roles that are such."""

    def fresh() -> Distillation:
        student, fake = (lora() if roles in ("both", role) else mlp() for role in ("student", "fake"))
        return started(distillation(teacher, student, fake))

    plain = fresh()
    for index in range(4):
        plain.step(index)
    resumed, states = fresh(), []
    for index in range(4):
        resumed.step(index)
        states.append(copy.deepcopy((resumed.state_dict(), resumed.ema.state_dict())))
        resumed = fresh()
        resumed.load_state_dict(states[-1][0])
        resumed.ema.load_state_dict(states[-1][1])
    for one, other in zip((plain.student, plain.fake), (resumed.student, resumed.fake), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for one, other in zip(plain.ema.weights["0.9"], resumed.ema.weights["0.9"], strict=True):
        assert torch.equal(one, other)
    state, averages = states[0]
    adapters = [".lora_" in name for name in (*state["student"], *averages["weights"]["0.9"])]
    assert all(adapters) if roles != "fake" else not any(adapters)
    assert (averages.get("base") == plain.teacher.checksum) == (roles != "fake")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda teacher: distillation(teacher, lora(), lora(), start="random"), "bind fake_init = 'teacher'"),
        (lambda teacher: distillation(teacher, lora(), mlp(), target=Data()), "teacher that predicts"),
        (lambda teacher: distillation(teacher, lora(), mlp(), noise=1), "takes no noise: bind OneStep.noise = 0"),
        (lambda teacher: LoRA(rank=0), "rank and alpha must be positive"),
        (
            lambda teacher: distillation(teacher, LoRA(rank=1, targets=("to_q",)), mlp()),
            "MLP has no linear layer or convolution called 'to_q'; it has time_embed, into",
        ),
    ],
)
def test_refusals(teacher, made, message):
    with pytest.raises(ValueError, match=message):
        made(teacher)


def test_three_roles_take_less_than_half_of_three_whole_networks(teacher):
    """Bytes of weights, gradients, optimiser state and averages, of the tensors themselves."""

    def network() -> MLP:
        return MLP(shape=(2,), width=256, depth=6)

    def wide(student, fake, storage) -> Distillation:
        made = distillation(teacher, mlp(), mlp(), storage=storage)
        made.teacher.model.network = network()
        for model, own in ((made.student.model, student), (made.fake, fake)):
            model.network = own
            if isinstance(own, LoRA):
                own.adapt(made.teacher.model.network)
                made.sharing.add("student" if model is made.student.model else "fake")
        made.teacher.model.requires_grad_(False)
        made.pack()
        return made

    def held_bytes(made: Distillation) -> int:
        tensors = [p for net in made.networks().values() for p in net.parameters()]
        made.fake_network.attach(DDP())
        made.student_optimizer.attach(own_parameters(made.student))
        made.ema.attach(made.student)
        for optimizer in made.optimizers().values():
            optimizer.materialise()
            tensors += [p.grad if p.grad is not None else torch.zeros_like(p) for p in optimizer.parameters]
            tensors += [v for s in optimizer.optimizer.state.values() for v in s.values() if v.ndim]
        tensors += [w for weights in made.ema.weights.values() for w in weights]
        return sum({t.data_ptr(): t.nbytes for t in tensors}.values())

    whole_networks, adapters = wide(network(), network(), "float32"), wide(lora(), lora(), "bfloat16")
    assert held_bytes(adapters) < 0.45 * held_bytes(whole_networks)
    assert held_bytes(wide(lora(), lora(), "float32")) < 0.45 * held_bytes(whole_networks)
    for made in (whole_networks, adapters):  # and what the dry run says
        assert sum(held(made)[1].values()) == pytest.approx(held_bytes(made), rel=1e-3)
