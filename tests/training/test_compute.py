"""How the arithmetic is done changes how long it takes, and nothing else but rounding."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from realuid.conditions import labelled
from realuid.losses import RealUID
from realuid.networks.blocks import blocks
from realuid.networks.dit import DiT
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.paths.interpolants import ExpressionInterpolant, Interpolant, LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.training.compute import Compute
from tests.training.stand_ins import GaussianData, context, gaussian_distillation

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
SMALL = {"shape": SHAPE, "width": 32, "multipliers": (1, 2), "blocks": 1}
NETWORKS = {
    "unet": lambda: UNet(**SMALL, attention=(1,), head_channels=16, classes=3),
    "song": lambda: SongUNet(**SMALL, attention=(1,)),
    "dhariwal": lambda: DhariwalUNet(**SMALL, attention=(1,)),
    "edm2": lambda: EDM2UNet(**SMALL, attention=(1,), head_channels=16),
    "dit": lambda: DiT(shape=SHAPE, width=32, depth=2, heads=2),
    "mlp": lambda: MLP(shape=SHAPE, width=64, depth=2),
}
WAYS = {
    "channels_last": {"channels_last": True},
    "recompute": {"recompute": True},
    "compile": {"compile": "default"},
    "all": {"channels_last": True, "recompute": True, "compile": "default"},
}


@pytest.fixture(name="eager")
def _eager(monkeypatch):
    """Graphs are captured whole as for a compiler, and differentiated, but run by PyTorch; a break is an error."""
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda run, mode, **how: compiler(run, backend="aot_eager", fullgraph=True, **how)
    )
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield


def random(network: nn.Module) -> nn.Module:
    """With weights such that no layer gives zeros."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def answers(network: nn.Module, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions, and gradients in weights and images, in one vector each."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, *SHAPE, generator=generator).requires_grad_()
    prediction = network(x, torch.rand(batch, generator=generator), labelled(torch.arange(batch) % 3))
    inputs = [x, *(p for p in network.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(prediction.square().sum(), inputs)
    return prediction.detach().flatten(), torch.cat([g.flatten() for g in gradients])


def relative(value: torch.Tensor, truth: torch.Tensor) -> float:
    return float((value - truth).norm() / truth.norm())


def cases() -> list:
    """Every network every way; a compilation takes half a minute but for the smallest ones."""
    marks = {(name, way): pytest.mark.exhaustive for name in NETWORKS for way in ("compile", "all")}
    marks |= dict.fromkeys([("unet", "all"), ("dit", "all"), ("mlp", "compile")], pytest.mark.slow)
    marks[("mlp", "all")] = ()
    return [pytest.param(name, way, marks=marks.get((name, way), ())) for name in NETWORKS for way in WAYS]


@pytest.mark.parametrize(("name", "way"), cases())
def test_predictions_and_gradients_are_the_same(name, way, eager):
    """Within 1e-5, trained and frozen; compiled blocks have no graph breaks, which would be errors."""
    plain = random(NETWORKS[name]())
    network = copy.deepcopy(plain)
    Compute(**WAYS[way]).prepare([network], CPU)
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in plain.named_parameters()]
    for trained in (True, False):
        for here, there in zip(
            answers(network.requires_grad_(trained)), answers(plain.requires_grad_(trained)), strict=True
        ):
            assert relative(here, there) < 1e-5
    with torch.no_grad():
        network.eval()(torch.randn(2, *SHAPE), torch.rand(2), labelled(torch.zeros(2, dtype=torch.int64)))


@pytest.mark.parametrize("way", ["channels_last", "recompute", "all"])
def test_a_copy_runs_its_own_weights(way, eager):
    network = random(NETWORKS["mlp"]())
    Compute(**WAYS[way]).prepare([network], CPU)
    Compute(**WAYS[way]).prepare([network], CPU)  # twice is once
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    plain = random(NETWORKS["mlp"]())
    plain.load_state_dict(other.state_dict())
    assert relative(answers(other)[0], answers(plain)[0]) < 1e-5
    assert relative(answers(network)[0], answers(plain)[0]) > 0.1


def test_recomputing_keeps_only_what_goes_into_the_blocks():
    """Bytes that are kept for the backward pass, inputs of blocks counted: less than half."""
    assert kept_bytes(recompute=True) < 0.5 * kept_bytes(recompute=False)


def kept_bytes(recompute: bool) -> int:
    network = random(NETWORKS["unet"]())
    Compute(recompute=recompute).prepare([network], CPU)
    kept: dict[int, torch.Tensor] = {}

    def keep(*tensors: torch.Tensor) -> None:
        kept.update({tensor.data_ptr(): tensor for tensor in tensors})

    for block in blocks(network):
        block.register_forward_pre_hook(lambda _, inputs: keep(*inputs))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: keep(tensor) or tensor, lambda tensor: tensor):
        network(torch.randn(8, *SHAPE), torch.rand(8), labelled(torch.zeros(8, dtype=torch.int64))).sum().backward()
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    return sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in weights)


@pytest.mark.parametrize("name", ["unet", "song", "dhariwal", "edm2", "dit"])
def test_attention_runs_in_a_fused_kernel(name):
    """Where nothing but the fused kernel is allowed, it is an error if queries, keys and values do not suit it."""
    network = random(NETWORKS[name]())
    attended = []
    attention = nn.functional.scaled_dot_product_attention

    def watched(*arguments, **how):
        attended.append(arguments)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return attention(*arguments, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "scaled_dot_product_attention", watched)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            answers(network)
    names = {event.key for event in profile.key_averages()}
    assert attended
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_scaled_dot_product_attention_math" not in names


class Watched(MLP):
    """Remembers the precision of its layers' results."""

    def __init__(self) -> None:
        super().__init__(shape=(2,), width=64, depth=2, time_scale=4.0)
        self.seen: list[torch.dtype] = []
        self.out.register_forward_hook(lambda layer, inputs, output: self.seen.append(output.dtype))


def test_a_fake_step_in_bfloat16_leaves_the_generator_step_in_float32():
    """The networks of a distillation, watched: one fake update in bfloat16, one generator update in float32, and
    predictions, loss, weights and gradients in float32 in both."""
    data = GaussianData(256)
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        images=10_000,
        fake_steps=1,
    )
    made.fake.network = Watched()
    predictions = []
    predict = made.fake.predict_at
    made.fake.predict_at = lambda *arguments: predictions.append(predict(*arguments)) or predictions[-1]
    place = context(64, data)
    object.__setattr__(place, "compute", Compute(regression="bfloat16"))
    made.start(place)
    made.step(0)
    assert made.fake.network.seen == [torch.bfloat16, torch.float32]
    assert [p.dtype for p in predictions] == [torch.float32] * 2
    assert {p.dtype for p in made.fake.parameters()} == {torch.float32}


@pytest.mark.parametrize("path", [LinearInterpolant(), ExpressionInterpolant(a="cos(pi/2*t)", b="sin(pi/2*t)")])
def test_a_step_is_the_same_with_compiled_blocks(path, eager):
    """Losses, gradient norms and weights of a whole step, whose blocks have no graph breaks; built-in schedules and
    formulas."""
    plain, compiled = (step(path, Compute(compile=way)) for way in ("none", "default"))
    for name, value in plain[0].items():
        torch.testing.assert_close(compiled[0][name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert relative(compiled[1], plain[1]) < 1e-5


def step(path: Interpolant, compute: Compute) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Scalars of one step, and the weights after it."""
    made = gaussian_distillation(
        interpolant=path,
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        images=10_000,
        fake_steps=2,
    )
    made.student.model.network = MLP(shape=(2,), width=64, depth=2)
    made.start(replace(context(64, GaussianData(256)), compute=compute))
    scalars = made.step(0)
    return scalars, torch.cat([p.detach().flatten() for net in (made.student, made.fake) for p in net.parameters()])


def test_precision_by_device():
    """bfloat16 where it is fast and harmless, and on the CPU only if it is bound."""
    cuda = torch.device("cuda")
    for kind, there in (("regression", "bfloat16"), ("generator", "tf32")):
        assert Compute().arithmetic(kind, CPU).precision == "float32"
        assert Compute().arithmetic(kind, cuda).precision == there
        assert Compute(regression="tf32", generator="float32").arithmetic(kind, cuda).precision in ("tf32", "float32")


def test_matrix_products_are_exact_where_float32_is_bound_and_as_before_afterwards():
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for precision, allowed in (("float32", False), ("tf32", True)):
        with Compute(generator=precision).arithmetic("generator", torch.device("cuda")).update():
            assert [flag.allow_tf32 for flag in flags] == [allowed] * 2
        assert [flag.allow_tf32 for flag in flags] == before
