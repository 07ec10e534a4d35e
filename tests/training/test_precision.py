"""bfloat16 on a CPU: chosen by measurement, kept with the run, and nothing else is changed by measuring."""

import copy

import pytest
import torch

from realuid import checkpoints
from realuid.commands import main
from realuid.losses import RealUID
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.training import precision
from realuid.training.compute import Compute
from realuid.training.precision import Choice, choose, shown
from realuid.training.run_folder import RunFolder
from realuid.training.run_state import RunState
from tests.training.stand_ins import GaussianData, context, gaussian_distillation

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(name="made")
def _made():
    return gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        images=10_000,
    )


def timed(monkeypatch, float32: float, bfloat16: float) -> list[str]:
    """Instructions that are there or not, and what a pass takes."""
    asked: list[str] = []

    def seconds(loss, arithmetic):
        asked.append(arithmetic.precision)
        return {"float32": float32, "bfloat16": bfloat16}[arithmetic.precision]

    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "seconds", seconds)
    return asked


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.5, "bfloat16"), (0.97, "float32"), (2.0, "float32")])
def test_the_faster_one_is_chosen_where_there_are_instructions(bfloat16, chosen, made, monkeypatch):
    asked = timed(monkeypatch, 1.0, bfloat16)
    compute = Compute(regression="fastest")
    choice = choose(compute, made, context(64, GaussianData(256)))
    assert choice == Choice(chosen, f"a pass took {1000 * bfloat16:.4g} ms in bfloat16 and 1000 ms in float32")
    assert compute.arithmetic("regression", CPU).precision == chosen
    assert compute.arithmetic("generator", CPU).precision == "float32"
    assert asked.count("bfloat16") == asked.count("float32") == precision.ROUNDS + 1


def test_nothing_is_measured_without_instructions_or_on_cuda(made, monkeypatch):
    monkeypatch.setattr(precision, "measured", None)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    compute = Compute(regression="fastest")
    choice = choose(compute, made, context(64, GaussianData(256)))
    assert choice.precision == "float32"
    assert "no instructions for bfloat16" in choice.reason
    assert precision.known(CUDA).precision == "bfloat16"
    bound = Compute(regression="bfloat16")
    assert choose(bound, made, context(64, GaussianData(256))) is None
    assert bound.arithmetic("regression", CPU).precision == "bfloat16"


def test_torch_is_asked_for_the_instructions(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert not precision.has_bfloat16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert precision.has_bfloat16()


def test_measuring_leaves_no_trace(made, monkeypatch):
    """Real passes in both precisions: weights, gradients, flags and random state stay."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    before = copy.deepcopy([network.state_dict() for network in made.networks().values()])
    state = torch.random.get_rng_state()
    choice = choose(Compute(regression="fastest"), made, context(64, GaussianData(256)))
    assert "ms in bfloat16" in choice.reason
    for network, weights in zip(made.networks().values(), before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
        assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not hasattr(made, "context")


def test_what_was_chosen_is_kept_with_the_run():
    state = RunState(regression="bfloat16")
    saved = {**state.state_dict(), "step": 1, "wall_s": 0.0}
    elsewhere = RunState(regression="float32")
    elsewhere.load_state_dict(saved)
    assert elsewhere.regression == "bfloat16"
    elsewhere.load_state_dict({name: value for name, value in saved.items() if name != "regression"})  # of version 0.1
    assert elsewhere.regression == "bfloat16"


def test_the_dry_run_says_what_and_why(monkeypatch):
    assert shown(Compute(), CPU) == "regressions in float32, generator's updates in float32"
    assert shown(Compute(), CUDA) == "regressions in bfloat16, generator's updates in tf32"
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert shown(Compute(regression="fastest"), CPU).startswith("regressions in float32, ")
    assert shown(Compute(regression="fastest"), CPU).endswith("(AVX512-BF16, AMX)")
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    assert "the faster of float32 and bfloat16, measured at the start" in shown(Compute(regression="fastest"), CPU)


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_it_began(tmp_path, monkeypatch, capfd):
    """The second start measures the opposite."""
    told = ["train", "--gin", "gin/smoke.gin", "--out", str(tmp_path / "run"), "--bind", "Trainer.evaluator = None"]
    told += ["--bind", "teacher/Trainer.evaluator = None", "--bind", "Trainer.compute = @Compute()"]
    told += ["--bind", "Compute.regression = 'fastest'", "--bind", "CosineLR.images = 1_280"]
    used = []
    arithmetic = Compute.arithmetic

    def watched(compute, kind, device):
        made = arithmetic(compute, kind, device)
        used.append((kind, made.precision))
        return made

    monkeypatch.setattr(Compute, "arithmetic", watched)
    for images, rounded in ((128, 0.5), (256, 2.0)):
        timed(monkeypatch, 1.0, rounded)
        used.clear()
        assert main([*told, "--bind", f"Trainer.images = {images}"]) == 0
        assert {made for kind, made in used if kind == "regression"} == {"bfloat16"}
    assert "regressions in bfloat16, as when the run began" in capfd.readouterr().err
    steps = RunFolder(tmp_path / "run").store
    assert checkpoints.load(steps.newest())["regression"] == "bfloat16"
