"""Lines of long work: the first within seconds, none where it takes a moment, none at its end."""

import pytest
from loguru import logger

from realuid.conditions import Condition
from realuid.evaluation.inputs import GaussianInputs, SampleSpec, generate
from realuid.networks.mlp import MLP
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.samplers import DDIM, DPMSolver, Euler, EulerMaruyama, ExpressionDiffusion, Heun, UniformGrid
from realuid.utils import progress
from realuid.utils.progress import Progress, Pulse, duration, step_done
from tests.training.stand_ins import matching_model


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    times = [100.0]
    monkeypatch.setattr(Pulse, "_now", staticmethod(lambda: times[0]))
    return times


@pytest.fixture
def lines():
    found = []
    handle = logger.add(lambda message: found.append(message.record["message"]))
    yield found
    logger.remove(handle)


def test_the_first_line_comes_within_seconds_and_says_what_is_left(clock, lines):
    work = Progress("images generated", 1000)
    for _ in range(3):
        clock[0] += 1.0
        work.advance(100)
    assert lines == ["200 of 1,000 images generated, 8.0 s left"]


def test_what_takes_a_moment_is_not_worth_a_line(clock, lines):
    work = Progress("images", 1000)
    for _ in range(10):
        clock[0] += progress.FIRST_S / 11
        work.advance(100)
    assert lines == []


@pytest.mark.parametrize(("seconds", "most"), [(60, 9), (3600, 130)])
def test_lines_grow_rare(clock, lines, seconds, most):
    work = Progress("images", seconds)
    for _ in range(seconds):
        clock[0] += 1.0
        work.advance(1)
    assert 5 <= len(lines) <= most
    assert f"{seconds:,} of {seconds:,}" not in " ".join(lines), "the end says itself"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (4.24, "4.2 s"),
        (61, "1 min 01 s"),
        (7500, "2 h 05 min"),
        (59.7, "1 min 00 s"),
        (4.32e8, "5,000 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_steps_of_a_single_batch_are_shown(clock, lines):
    work = Progress("images generated", 200)
    with work.doing(100):
        for step in range(1, 51):
            clock[0] += 1.0
            step_done(step, 50)
    assert lines[0] == "0 of 200 images generated, step 2 of 50 of the next 100, 1 min 38 s left"
    assert 4 <= len(lines) <= 6
    work.advance(100)
    clock[0] += progress.LATER_S
    step_done(3, 50)  # nothing is at work
    assert len(lines) <= 6


SAMPLERS = {
    "Euler": Euler(steps=40, grid=UniformGrid()),
    "Heun": Heun(steps=40, grid=UniformGrid()),
    "DDIM": DDIM(steps=40, grid=UniformGrid()),
    "DPMSolver": DPMSolver(steps=40, grid=UniformGrid()),
    "EulerMaruyama": EulerMaruyama(
        steps=40, grid=UniformGrid(), diffusion=ExpressionDiffusion(epsilon="0.1 * a * (1 - t)")
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_shows_its_steps(name, clock, lines):
    """One batch of a slow teacher: a second a step."""
    sampler = SAMPLERS[name]
    model = matching_model(MLP(shape=(1, 2, 2), width=4, depth=1), LinearInterpolant(), Velocity())
    answer = model.predict

    def slow(*arguments):
        clock[0] += 1.0
        return answer(*arguments)

    model.predict = slow
    inputs = GaussianInputs(SampleSpec((1, 2, 2), ()), 0, Condition())
    generate(lambda x0, condition, noise: sampler(model, x0, condition, noise), inputs, count=4, batch=4)
    first = 1 if name == "Heun" else 2  # which asks twice a step
    assert lines[0].startswith(f"0 of 4 images generated, step {first} of 40 of the next 4, ")
    assert 4 <= len(lines) <= 12
