"""The step's benchmark in small: the authors' way and ours compute the same, and the numbers are of what ran."""

import json
from functools import partial

import pytest
import torch

from realuid.benchmarks import step
from realuid.benchmarks.meters import Counted, peak
from realuid.commands.benchmark import main
from realuid.training.compute import Compute

pytestmark = [pytest.mark.xdist_group("benchmark of a step"), pytest.mark.slow]  # `lines` is made once

BATCH = 6
TINY = [
    *("--gin", "gin/fm_cifar10.gin", "--batch", str(BATCH), "--rounds", "1", "--device", "cpu"),
    *("--bind", "UNet.shape = (3, 8, 8)", "--bind", "InMemory.shape = (3, 8, 8)", "--bind", "UNet.width = 16"),
    *("--bind", "UNet.multipliers = (1, 2)", "--bind", "UNet.blocks = 1", "--bind", "UNet.head_channels = 16"),
    *("--bind", "Distillation.fake_steps = 1"),
]


@pytest.fixture(scope="module", name="lines")
def _lines():
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr(step, "peak", lambda arithmetic: 1e12)
        patch.setattr("builtins.print", lambda text, **how: printed.append(text))
        assert main(["step", *TINY, "--ways", "exact", "all_float32", "bfloat16"]) == 0
    first, *lines = map(json.loads, printed)
    assert first["batch"] == BATCH
    return {line["way"]: line for line in lines}


@pytest.mark.parametrize("way", ["exact", "all_float32"])
def test_losses_and_gradients_are_the_authors(lines, way):
    for kind in ("fake", "generator"):
        assert lines[way][f"{kind}_loss_difference"] < 1e-6
        assert lines[way][f"{kind}_gradient_difference"] < 1e-4


def test_bfloat16_is_for_the_fake_network_alone(lines):
    line = lines["bfloat16"]
    assert 1e-4 < line["fake_gradient_difference"] < 0.1
    assert line["generator_gradient_difference"] < 1e-4


def test_arithmetic_in_forward_passes(lines):
    """A fake update has one pass of the generator and two or, with a sixth as many real samples, 1 + 1/6 of the fake
    network, each with a backward pass twice as dear; a generator update has three and twice two. Theirs computes
    gradients of the fake network's weights besides. First layers, whose input needs no gradient, cost less."""
    assert lines["exact"]["forward_equivalents"] == pytest.approx(7 + 7, rel=0.02)
    assert lines["all_float32"]["forward_equivalents"] == pytest.approx((1 + 3 * 7 / 6) + 7, rel=0.02)
    for way in lines.values():  # theirs is the step that was timed, whatever ours leaves out
        assert way["authors_forward_equivalents"] == pytest.approx(7 + 8, rel=0.04)
        assert way["authors_memory_mib"] == lines["exact"]["authors_memory_mib"]


def test_samples_made_once_are_counted_once(capsys, monkeypatch):
    """Three fake updates of six passes, one generation, and the generator's."""
    monkeypatch.setattr(step, "peak", lambda arithmetic: 1e12)
    again = ("--bind", "Distillation.fake_steps = 3", "--bind", "Distillation.steps_per_sample = 3")
    assert main(["step", *TINY, *again, "--ways", "exact"]) == 0, capsys.readouterr().err
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["forward_equivalents"] == pytest.approx(3 * 6 + 1 + 7, rel=0.02)
    assert line["authors_forward_equivalents"] == pytest.approx(3 * 7 + 8, rel=0.04)
    assert line["fake_loss_difference"] < 1e-6
    assert line["generator_gradient_difference"] < 1e-4


LABELLED = ["--bind", "UNet.classes = 4", "--bind", "InMemory.classes = 4", "--bind", "Trainer.evaluator = None"]

slow = partial(pytest.param, marks=pytest.mark.slow)
SIGMA = ["--bind", "UnitVariancePreconditioning.sigma_data = 0.5"]


@pytest.mark.parametrize(
    ("bindings", "reason"),
    [
        slow(LABELLED, None),
        (["--bind", "RealUID.target = @Data()"], "the loss is written in Data, the authors' in Velocity"),
        slow(["--bind", "Distillation.weight = @EDMWeight()", "--bind", "EDMWeight.sigma_data = 0.5"], "EDMWeight"),
        slow(
            [*("--bind", "fake/MatchingModel.preconditioning = @UnitVariancePreconditioning()"), *SIGMA],
            "the fake has UnitVariancePreconditioning, the authors' has NoPreconditioning",
        ),
        slow(["--bind", "MatchingModel.interpolant = @CosineInterpolant()"], "the path is CosineInterpolant"),
    ],
)
def test_losses_that_are_other_functions_are_not_compared(bindings, reason, capsys, monkeypatch):
    monkeypatch.setattr(step, "peak", lambda arithmetic: 1e12)
    assert main(["step", *TINY, *bindings, "--ways", "sixth"]) == 0, capsys.readouterr().err
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    compared = {f"{kind}_{what}_difference" for kind in ("fake", "generator") for what in ("loss", "gradient")}
    if reason is None:
        assert "not_compared" not in line
        assert max(line[name] for name in compared) < 1e-3
    else:
        assert reason in line["not_compared"]
        assert not compared & set(line)
    assert line["authors_forward_equivalents"] > 0


def test_others_than_the_papers_are_refused(capsys):
    assert (
        main(["step", *TINY, "--ways", "exact", "--bind", "RealUID.alpha = 1.0", "--bind", "RealUID.beta = 1.0"]) == 2
    )
    assert "RealUID with real data" in capsys.readouterr().err


def test_tensors_are_counted_while_they_live():
    with Counted() as counted:
        a = torch.zeros(1000)
        b = a @ a
        del a
        view = torch.zeros(500).view(5, 100)
        assert counted.take_bytes() == 4004
        c = view + b
        assert counted.take_bytes() == 2000
        del view, c
        assert counted.take_bytes() == 0
    assert counted.operations == 0


def test_the_peak_is_a_speed_of_this_machine():
    arithmetic = Compute().arithmetic("regression", torch.device("cpu"))
    assert 1e8 < peak(arithmetic, seconds=0.1) < 1e15
