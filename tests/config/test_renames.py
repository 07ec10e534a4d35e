"""Names of version 0.1: a binding that uses one gives the assembly of the new name, and one line that says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from realuid.config import Config, ConfigError, build, load, renames
from realuid.config.registry import find, register_components
from realuid.networks.no_init_weights import no_weights
from realuid.training.parallelism import FSDP

SMOKE = str(Path(__file__).parents[2] / "gin" / "smoke.gin")
NAMES = Path(__file__).with_name("names_of_0_1.txt")

IMAGES = "{0}.shape = (1, 8, 8)\n"
MODEL = """
MatchingModel.network = @MLP()
MLP.shape = (2,)
MatchingModel.interpolant = @BrownianInterpolant()
MatchingModel.coupling = @PairedCoupling()
MatchingModel.target = @Data()
MatchingModel.preconditioning = @NoPreconditioning()
"""
TEACHER = """
TeacherTraining.model = @MatchingModel()
TeacherTraining.sampler = @Posterior()
Posterior.steps = 2
Posterior.redraw = 'markov'
Posterior.grid = @UniformGrid()
TeacherTraining.time_sampler = @UniformTime()
UniformTime.low = 0.1
UniformTime.high = 0.9
TeacherTraining.weight = @UnitWeight()
TeacherTraining.optimizer = @Adam()
Adam.lr = 0.001
Adam.lr_schedule = @ConstantLR()
TeacherTraining.ema = @EMA()
EMA.decays = (0.9,)
"""
GUIDED = """
GuidedModel.model = @MatchingModel()
GuidedModel.scale = 2.0
MatchingModel.network = @DiT()
DiT.shape = (1, 8, 8)
DiT.width = 16
DiT.depth = 1
DiT.heads = 2
DiT.classes = 3
MatchingModel.interpolant = @LinearInterpolant()
MatchingModel.coupling = @IndependentCoupling()
MatchingModel.target = @Velocity()
MatchingModel.preconditioning = @NoPreconditioning()
"""

# What else is bound of a component, by its name now, and values of the arguments that have another name now.
ALONE = {
    "Adam": ("Adam.lr = 0.001\nCosineLR.images = 100\n", {"lr_schedule": "@CosineLR()"}),
    "MatchingModel": (MODEL, {"source_conditioned": "True"}),
    "TeacherTraining": (TEACHER + MODEL, {"condition_dropout": "0.25"}),
    "EDMStochastic": (
        "EDMStochastic.steps = 4\nEDMStochastic.grid = @KarrasGrid()\n",
        {"S_churn": "7.0", "S_min": "0.3", "S_max": "11.0", "S_noise": "1.5"},
    ),
    **{
        name: (IMAGES.format(name), {"out_multiplier": "2", "in_multiplier": "3"})
        for name in ("DhariwalUNet", "DiT", "EDM2UNet", "MLP", "SongUNet", "UNet")
    },
}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that are said from here on, with nothing said yet."""
    for said in (renames._warn, renames.dropped):
        said.cache_clear()
    found: list[str] = []
    sink = logger.add(lambda line: found.append(str(line).strip()), format="{message}", level="WARNING")
    yield found
    logger.remove(sink)


def told(old: str, new: str) -> str:
    return f"{old} is called {new} now; the old name goes with the next version"


def alone(component: str, binding: str) -> Config:
    return Config.from_text(f"{ALONE[component][0]}{binding}\n", root=component)


def cases() -> list[tuple[str, str, str]]:
    return [(component, old, new) for (component, old), new in renames.ARGUMENTS.items()]


@pytest.mark.parametrize(("component", "old", "new"), [case for case in cases() if case[0] != "Trainer"])
def test_an_argument(component, old, new, lines):
    value = ALONE[component][1][new]
    config = alone(component, f"{component}.{old} = {value}")
    assert lines == [told(f"{component}.{old}", f"{component}.{new}")]
    today = alone(component, f"{component}.{new} = {value}")
    assert len(lines) == 1
    assert (config.text, config.digest()) == (today.text, today.digest())
    assert config.bindings[f"{component}.{new}"] == value
    with no_weights():
        part = getattr(build(config), new)
    assert repr(part) == value or f"@{type(part).__name__}()" == value


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in cases() if case[0] == "Trainer"])
def test_an_argument_of_the_run(old, new, lines):
    """On the command line over what a recipe binds by the new name."""
    value = {"loggers": "[]", "parallelism": "@FSDP()", "method": "@TeacherTraining()"}[new]
    config = load([SMOKE], [f"Trainer.{old} = {value}"])
    assert lines == [told(f"Trainer.{old}", f"Trainer.{new}")]
    today = load([SMOKE], [f"Trainer.{new} = {value}"])
    assert (config.text, config.digest()) == (today.text, today.digest())
    assert config.bindings[f"Trainer.{new}"] == value


COMPONENTS = {
    "Latent": "RealUID.target = @{0}()",
    "ConstantRate": "Adam.lr_schedule = @{0}()",
    "CosineRate": "Adam.lr_schedule = @other/{0}()\nother/{0}.images = 100",
    "Replicated": "Trainer.parallelism = @{0}()",
    "Sharded": "Trainer.parallelism = @{0}()\n{0}.reshard = False",
}


@pytest.mark.parametrize("prefix", ["", "realuid.training."])
@pytest.mark.parametrize("old", renames.COMPONENTS)
def test_a_component(old, prefix, lines):
    """In references and in bindings of its arguments, also in a scope and behind modules, with one line for all."""
    new = renames.COMPONENTS[old]
    with_it = COMPONENTS[old].format(prefix + old).splitlines()
    config = load([SMOKE], with_it)
    assert lines == [told(old, new)]
    today = load([SMOKE], COMPONENTS[old].format(new).splitlines())
    assert (config.text, config.digest()) == (today.text, today.digest())
    assert new in config.text
    assert old not in config.text


def test_the_component_is_built(lines):
    parallelism = build(load([SMOKE], COMPONENTS["Sharded"].format("Sharded").splitlines())).parallelism
    assert isinstance(parallelism, FSDP)
    assert not parallelism.reshard


def test_both_names_are_one_argument_and_the_last_binding_wins(lines):
    text = "MLP.shape = (2,)\nMLP.height = 2\nMLP.out_multiplier = 3\n"
    assert build(Config.from_text(text, root="MLP")).out_multiplier == 3
    text = "MLP.shape = (2,)\nMLP.out_multiplier = 3\nMLP.height = 2\n"
    assert build(Config.from_text(text, root="MLP")).out_multiplier == 2


@pytest.mark.parametrize(("component", "argument"), renames.DROPPED)
def test_an_argument_that_is_not_needed_is_read_past(component, argument, lines):
    today = Config.from_text(GUIDED, root=component)
    assert lines == []
    config = Config.from_text(
        GUIDED + f"{component}.{argument} = 3\nteacher/{component}.{argument} = 4\n", root=component
    )
    (line,) = lines
    reason = renames.DROPPED[component, argument]
    assert line == f"{component}.{argument} is not needed any more ({reason}); it is an error in the next version"
    assert (config.text, config.digest()) == (today.text, today.digest())
    assert build(config).scale == 2.0


@pytest.mark.parametrize("written", ["labels", "y=labels"])
def test_an_input_that_a_text_names(written, lines):
    text = "TorchModule.factory = 'torch.nn:Identity'\nTorchModule.classes = 3\nTorchModule.call = ('x', '{}')\n"
    config = Config.from_text(text.format(written), root="TorchModule", allowed=["torch.nn:Identity"])
    assert lines == [told("labels of TorchModule.call", "label")]
    today = written.replace("labels", "label")
    assert config.bindings["TorchModule.call"] == repr(("x", today))
    assert build(config).call == [("", "x"), tuple(today.rpartition("=")[::2])]


def test_a_run_of_0_1_is_the_same_run(lines):
    """Its config.gin, with all old names that occur in it, gives the text and the digest of today's."""
    today = load([SMOKE])
    text = today.text
    for new, old in (
        ("CosineLR", "CosineRate"),
        ("Adam.lr_schedule", "Adam.rate"),
        ("Trainer.method", "Trainer.procedure"),
    ):
        assert new in text
        text = text.replace(new, old)
    stored = Config.from_text(text, "config.gin")
    assert sorted(lines) == sorted(
        [
            told("CosineRate", "CosineLR"),
            told("Adam.rate", "Adam.lr_schedule"),
            told("Trainer.procedure", "Trainer.method"),
        ]
    )
    assert (stored.text, stored.digest()) == (today.text, today.digest())


def test_a_name_of_today_says_nothing(lines):
    load([SMOKE])
    assert lines == []


def test_an_old_name_of_another_component_is_an_error(lines):
    with pytest.raises(ConfigError, match="EDMStochastic has no argument 'height'"):
        Config.from_text("EDMStochastic.height = 2\n", root="EDMStochastic")
    with pytest.raises(ConfigError, match="GuidedModel has no argument 'class'"):
        Config.from_text(GUIDED + "GuidedModel.class = 3\n", root="GuidedModel")


def test_every_name_of_0_1_is_known_by_its_name_now():
    """All components that a gin file of 0.1 could name, with all their arguments, as its registry listed them."""
    register_components()
    names = [line.split() for line in NAMES.read_text().splitlines()]
    assert len(names) == 138
    for old, *arguments in names:
        component = find(renames.COMPONENTS.get(old, old))
        for argument in arguments:
            now = renames.ARGUMENTS.get((component.name, argument), argument)
            dropped = (component.name, argument) in renames.DROPPED
            assert dropped or now in component.parameters, f"{old}.{argument}"


def test_every_new_name_is_one():
    register_components()
    for new in renames.COMPONENTS.values():
        assert find(new).name == new
    for (component, old), new in renames.ARGUMENTS.items():
        assert new in find(component).parameters
        assert old not in find(component).parameters
    for component, argument in renames.DROPPED:
        assert argument not in find(component).parameters
