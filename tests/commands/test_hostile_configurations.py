"""A configuration that came with a checkpoint names no code but what the user names: nothing of it runs."""

import sys

import pytest
import torch

from realuid import config as configuration
from realuid.commands.evaluate import main as evaluate
from realuid.commands.export import main as export
from realuid.commands.sample import main as sample
from realuid.commands.train import main as train
from realuid.config import Config
from realuid.jobs import assembled
from realuid.jobs.assembled import outlined
from realuid.jobs.plan import dry_run
from realuid.utils.errors import RunError
from tests.commands.conftest import ROOT, TINY
from tests.hostile import refusal

PLUG_IN = """
import pathlib
from torch import nn
pathlib.Path({canary!r}).touch()
from realuid.paths.interpolants import Interpolant
__all__ = ["Bent"]
class Bent(Interpolant):
    def a(self, t): return 1 - t
    def b(self, t): return t
class Caller:
    names_code = frozenset({{"callee"}})
    def __init__(self, *, callee: str = ""): ...
def network(): return nn.Identity()
"""

CALLS = "MatchingModel.network = @TorchModule()\nTorchModule.arguments = {'command': 'touch %s'}\n"
PAYLOADS = {
    "a factory": (CALLS + "TorchModule.factory = 'os:system'", "os:system"),
    "a factory in a macro": ("WHAT = 'subprocess:call'\n" + CALLS + "TorchModule.factory = %%WHAT", "subprocess:call"),
    "a factory in a scope": (CALLS + "teacher/TorchModule.factory = 'os:popen'", "os:popen"),
    "a factory by its full name": (
        CALLS + "realuid.networks.adapter.TorchModule.factory = 'builtins:exec'",
        "there is no component",
    ),
    "a factory by gin's name": (CALLS + "realuid.networks.TorchModule.factory = 'builtins:exec'", "builtins:exec"),
    "an import": ("import hostile_plug_in", "import hostile_plug_in"),
    "an import under another name": ("import hostile_plug_in as json", "hostile_plug_in"),
    "an import of a part": ("from hostile_plug_in import Bent", "hostile_plug_in"),
    "a module that runs on import": ("import unittest.__main__", "unittest.__main__"),
    "an include": ("include 'more.gin'", "includes no files"),
}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """What a payload makes; beside it a module and a gin file that do so."""
    path = tmp_path / "EXECUTED"
    (tmp_path / "hostile_plug_in.py").write_text(PLUG_IN.format(canary=str(path)))
    (tmp_path / "more.gin").write_text("import hostile_plug_in\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    for name in [name for name in sys.modules if name.startswith("hostile_plug_in")]:
        del sys.modules[name]


def changed(finished, path, statements, before=False):
    """A copy of the finished run's checkpoint with more in its configuration."""
    state = torch.load(finished / "checkpoints" / "step_00000008.pt", weights_only=True)
    parts = [statements, state["config"]] if before else [state["config"], statements]
    torch.save({**state, "config": "\n".join(parts) + "\n"}, path)
    return str(path)


@pytest.mark.parametrize("command", [sample, evaluate, export])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_of_a_checkpoints_configuration_runs(command, payload, finished, canary, tmp_path, capsys):
    statements, named = PAYLOADS[payload]
    statements = statements % canary if "%s" in statements else statements
    model = changed(finished, tmp_path / "hostile.pt", statements, before=payload.startswith("an import"))
    options = ["--num", "4"] if command is not export else []
    assert command(["--model", model, *options, *([] if command is evaluate else ["--out", "out"])]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert named.removeprefix("import ") in message
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_all_that_is_missing_is_told_at_once_and_can_be_allowed(finished, canary, tmp_path, capsys):
    statements = (
        "import hostile_plug_in\nMatchingModel.interpolant = @Bent()\n"
        "MatchingModel.network = @TorchModule()\nTorchModule.factory = 'hostile_plug_in:network'\n"
    )
    model = changed(finished, tmp_path / "own.pt", statements)
    order = ["--model", model, "--num", "4", "--out", "grid.png"]
    assert sample(order) == 2
    advice = "--allow-import hostile_plug_in hostile_plug_in:network"
    assert capsys.readouterr().err.strip().endswith(advice)
    assert not canary.exists()
    assert sample([*order, *advice.split()]) == 2  # allowed, and of other weights
    assert "is of another network" in capsys.readouterr().err
    assert canary.exists()


@pytest.mark.slow
def test_a_run_with_a_plug_in_is_opened_by_its_gin_file_or_by_one_more_option(canary, tmp_path, capsys):
    bindings = "\n".join(TINY)
    (tmp_path / "bent.gin").write_text(
        f"include '{ROOT}/gin/smoke.gin'\nimport hostile_plug_in\nMatchingModel.interpolant = @Bent()\n{bindings}\n"
    )
    assert train(["--gin", "bent.gin"]) == 0
    assert train(["--gin", "bent.gin"]) == 0  # complete: its own config.gin was read
    assert sample(["--gin", "bent.gin", "--num", "4", "--out", "grid.png"]) == 0
    assert sample(["--run", "runs/bent", "--num", "4", "--out", "grid.png"]) == 2
    assert "add --allow-import hostile_plug_in" in capsys.readouterr().err
    options = ["--run", "runs/bent", "--allow-import", "hostile_plug_in"]
    assert sample([*options, "--num", "4", "--out", "grid.png"]) == 0
    assert evaluate([*options, "--num", "60"]) == 0
    (tmp_path / "runs" / "bent" / "config.gin").write_text(
        "import hostile_other\n" + (tmp_path / "runs" / "bent" / "config.gin").read_text()
    )
    assert train(["--gin", "bent.gin"]) == 2
    assert "holds another run (of hostile_other, which these gin files do not name)" in capsys.readouterr().err
    (tmp_path / "metrics.gin").write_text("import hostile_plug_in\nEvaluator.count = 60\n")
    options = ["--run", "runs/bent", "--num", "60", "--metrics", "metrics.gin"]
    assert evaluate(options) == 0  # a file of the user's own


NUMBERS = {
    "width": "UNet.width = 1073741824",
    "blocks": "UNet.blocks = 1099511627776",
    "pixels": "SHAPE = (1, 1048576, 1048576)",
    "a layer for each number": f"UNet.multipliers = ({'1, ' * 2000})",
    "another network's width": "MatchingModel.network = @MLP()\nMLP.shape = (1, 8, 8)\nMLP.width = 1073741824",
    "another network's depth": "MatchingModel.network = @MLP()\nMLP.shape = (1, 8, 8)\nMLP.depth = 1099511627776",
    "EDM's blocks": "MatchingModel.network = @SongUNet()\nSongUNet.shape = (1, 8, 8)\nSongUNet.blocks = 1099511627776",
    "classes": "MatchingModel.network = @DiT()\nDiT.shape = (1, 8, 8)\nDiT.classes = 1099511627776",
    "a table of times": "MatchingModel.interpolant = @DDPMInterpolant()\nDDPMInterpolant.steps = 1099511627776",
    "steps of time": "teacher/Euler.steps = 1099511627776",
    "a formula": (
        "MatchingModel.interpolant = @ExpressionInterpolant()\nExpressionInterpolant.b = '1 - t'\n"
        f"ExpressionInterpolant.a = '{'minimum(' * 60}t{', 1)' * 60}'"
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_cost_no_more_than_the_file_is_worth(name, finished, tmp_path):
    model = changed(finished, tmp_path / "large.pt", NUMBERS[name])
    options = ["--teacher"] if name == "steps of time" else []

    def work() -> None:
        assert sample(["--model", model, *options, "--num", "1", "--out", "out.png"]) == 2
        raise RunError("status 2")

    refusal(work, tmp_path)


TIMES = ", ".join(str(k / 3000) for k in range(2000))
LARGE = {
    "blocks": ("UNet.blocks = 100000", "blocks must be at most 1,000"),
    "width": ("UNet.width = 1000000000", "impossible size"),
    "multipliers": (f"UNet.multipliers = ({'1, ' * 1500})", "the number of multipliers must be at most 32"),
    "depth of a transformer": (
        "MatchingModel.network = @DiT()\nDiT.shape = (1, 8, 8)\nDiT.width = 64\nDiT.heads = 4\nDiT.depth = 1000000",
        "depth must be at most 1,000",
    ),
    "heads": (
        "MatchingModel.network = @DiT()\nDiT.shape = (1, 8, 8)\nDiT.width = 64\nDiT.depth = 2\nDiT.heads = 1000000000",
        "divisible by four and by heads",
    ),
    "depth of a perceptron": (
        "MatchingModel.network = @MLP()\nMLP.shape = (1, 8, 8)\nMLP.width = 8\nMLP.depth = 100000000",
        "depth must be at most 1,000",
    ),
    "layers of a module of the user's": (
        "MatchingModel.network = @TorchModule()\nTorchModule.factory = 'tests.hostile:many_layers'",
        "the networks have more than 8,000 weights and tables",
    ),
    "tokens": ("InMemory.encoder = @WordLlama()\nWordLlama.length = 1000000000", "length must be at most 100,000"),
    "steps": ("Euler.steps = 1000000000", "at most 100,000"),
    "batch": ("Trainer.batch = 1000000000", "batch must be at most"),
    "lanes": ("Trainer.lanes = 1000000000", "lanes must be at most"),
    "a step without end": ("Trainer.timeout_s = 1e400", "timeout_s must be at most 100,000,000"),
    "a save without end": ("Checkpoints.stall_s = 1e10", "stall_s must be at most 100,000,000"),
    "images of an evaluation": ("Evaluator.count = 1000000000000", "count must be at most 10,000,000"),
    "updates": ("Distillation.fake_steps = 1000000000", "fake_steps must be at most"),
    "times of a sample": ("Distillation.times_per_sample = 5000", "times_per_sample must be at most 100"),
    "images of noise": ("OneStep.noise = 1000000000", "noise must be at most"),
    "rank": (
        "LoRA.rank = 1000000000\nDistillation.fake_init = 'teacher'\n"
        "student/MatchingModel.network = @LoRA()\nfake/MatchingModel.network = @LoRA()",
        "rank must be at most",
    ),
    "a classifier": ("SmallClassifier.width = 1000000000", "width must be at most"),
    "averages": (f"EMA.decays = ({TIMES})", "the number of decays must be at most 64"),
    "parts of a score": (
        "Evaluator.metrics = [@Frechet(), @InceptionScore()]\nInceptionScore.splits = 1000000000",
        "splits must be at most",
    ),
    "threads": ("Trainer.threads = 1000000000", "threads must be at most"),
    "processes": ("Trainer.data = @Prefetched()\nPrefetched.data = @InMemory()\nPrefetched.workers = 100000", "1,024"),
    "subsets": ("Evaluator.metrics = [@Frechet(), @KernelDistance()]\nKernelDistance.subsets = 1000000000", "subsets"),
    "steps of a student": (
        f"Distillation.student = @FewSteps()\nFewSteps.model = @student/MatchingModel()\nFewSteps.times = ({TIMES})",
        "must be at most 1,000",
    ),
}


@pytest.fixture(scope="module")
def warm():
    """One assembly before those whose time is taken: it imports what all of them use."""
    outlined(configuration.load([ROOT / "gin" / "smoke.gin"]))


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("name", LARGE)
def test_what_no_machine_holds_is_refused_by_the_dry_run(name, tmp_path):
    """Of a user's own file: with the binding, and as soon as that of a file that came from elsewhere."""
    text, words = LARGE[name]
    (tmp_path / "x.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\n{text}\n")

    def work() -> None:
        dry_run(configuration.load([tmp_path / "x.gin"]))

    assert words in refusal(work, tmp_path)


@pytest.mark.slow
def test_what_this_machine_does_not_hold_can_be_planned_and_not_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(assembled, "machine_memory", lambda: 1 << 20)
    (tmp_path / "x.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\nUNet.width = 64\n")
    assert train(["--gin", "x.gin", "--dry-run"]) == 0
    assert train(["--gin", "x.gin"]) == 2
    assert "the networks take more than the 1.0 MB of this machine's memory" in capsys.readouterr().err
    monkeypatch.setattr(assembled, "machine_memory", lambda: 16 << 20)
    (tmp_path / "x.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\nTrainer.batch = 65536\n")
    assert train(["--gin", "x.gin"]) == 2
    assert "bind a smaller Trainer.batch or Trainer.micro_batch" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_infinite_number_is_read_back(tmp_path, capsys):
    """As gin writes one, 1e400: `inf` would be a name."""
    bindings = "\n".join(TINY)
    (tmp_path / "x.gin").write_text(f"include '{ROOT}/gin/smoke.gin'\n{bindings}\nAdam.clip = 1e400\n")
    assert train(["--gin", "x.gin"]) == 0
    assert "Adam.clip = 1e999" in (tmp_path / "runs" / "x" / "config.gin").read_text()
    assert train(["--gin", "x.gin"]) == 0
    assert sample(["--gin", "x.gin", "--num", "4", "--out", "grid.png"]) == 0
    assert evaluate(["--run", "runs/x", "--num", "60"]) == 0
    assert export(["--run", "runs/x", "--out", "out"]) == 0
    assert not capsys.readouterr().err.count("Traceback")


@pytest.mark.parametrize(("bound", "written"), [("WHAT = -1e400", "-1e999"), ("WHAT = [1e400, 2.0]", "[1e999, 2.0]")])
def test_other_infinite_numbers_are_read_back(bound, written):
    text = f"{bound}\nTorchModule.factory = 'torch.nn:Identity'\nTorchModule.arguments = {{'what': %WHAT}}\n"
    config = Config.from_text(text, root="TorchModule", allowed=["torch.nn:Identity"])
    assert f"WHAT = {written}" in config.text
    assert Config.from_text(config.text, root="TorchModule", allowed=["torch.nn:Identity"]).text == config.text
