"""Pipelines of diffusers: what is read of a saved one answers and samples as the pipeline itself."""

import diffusers
import pytest
import torch

from realuid.models.guidance import GuidedModel
from realuid.models.matching import MatchingModel
from realuid.paths.couplings import IndependentCoupling
from realuid.pretrained import components, read
from realuid.pretrained.pipelines.decoder import PipelineDecoder
from realuid.pretrained.pipelines.encoder import PipelineEncoder
from realuid.pretrained.pipelines.guidance import RenormalisedGuidedModel
from realuid.samplers import DDIM, DPMSolver, Euler
from tests.pretrained.pipelines.cases import CASES

PROMPTS = ["a red cube", "two dogs, one of them asleep"]
NAMES = sorted(CASES)
SAMPLERS = {sampler.__name__: sampler for sampler in (DDIM, DPMSolver, Euler)}


def model_of(foreign, scale):
    """The model that a gin file would bind, by what was read."""
    model = MatchingModel(
        network=foreign.build(),
        interpolant=components.path(foreign.path).build(),
        coupling=IndependentCoupling(),
        target=components.TARGETS[foreign.target](),
        preconditioning=components.preconditioning(foreign.preconditioning, foreign.target).build(),
    ).eval()
    if scale is None:
        return model
    kind = RenormalisedGuidedModel if model.network.family.renormalised else GuidedModel
    return kind(model=model, scale=scale)


def read_small(folder, case):
    return read(folder, known={"tokens": case.tokens, "guidance": case.embedded, "shape": case.shape})


def encoder_of(folder, foreign):
    arguments = {name: foreign.arguments[name] for name in ("pipeline", "config", "tokens")}
    return PipelineEncoder(folder=folder, dtype="float32", **arguments)


class Recorder:
    """Keeps what a scheduler is given in each step."""

    def __init__(self, scheduler):
        self.scheduler, self.step, self.calls = scheduler, scheduler.step, []

    def __enter__(self):
        def step(output, time, sample, *arguments, **keywords):
            self.calls.append((output.clone(), float(time), sample.clone()))
            return self.step(output, time, sample, *arguments, **keywords)

        self.scheduler.step = step
        return self.calls

    def __exit__(self, *_):
        del self.scheduler.step


@pytest.mark.parametrize("name", NAMES)
def test_the_network_answers_as_in_the_pipelines_own_loop(saved, name):
    pipeline, folder = saved(name)
    case = CASES[name]
    foreign = read_small(folder, case)
    model, condition = model_of(foreign, None), encoder_of(folder, foreign)(PROMPTS)
    x0 = torch.randn(2, *case.shape, generator=torch.Generator().manual_seed(0))
    with Recorder(pipeline.scheduler) as calls, torch.no_grad():
        case.run(pipeline, x0, PROMPTS, steps=3, scale=None)
        assert len(calls) == 3
        for output, time, sample in calls:
            t = torch.full((2,), time / (1000 if foreign.path.name == "linear" else 1), dtype=torch.float64)
            if type(pipeline.scheduler) is diffusers.EulerDiscreteScheduler:  # it steps through x / b
                sample = sample * model.interpolant.at(t[:1]).b.float()
            answer = model(case.unpacked(sample, x0), t, condition)
            torch.testing.assert_close(answer, case.unpacked(output, x0)[:, : x0.shape[1]], atol=1e-5, rtol=1e-5)
    assert float(answer.std()) > 0.05


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_many_steps_give_the_pipelines_own_latents(saved, name, steps):
    pipeline, folder = saved(name)
    case = CASES[name]
    foreign = read_small(folder, case)
    model, condition = model_of(foreign, case.scale), encoder_of(folder, foreign)(PROMPTS)
    grid = components.grid(foreign.steps).build()
    sampler = SAMPLERS[foreign.sampler](steps=steps, grid=grid)
    x0 = torch.randn(2, *case.shape, generator=torch.Generator().manual_seed(1))
    latents = sampler(model, x0, condition, lambda k: torch.randn_like(x0))
    start = model.interpolant.at(sampler.times(model)[:1])
    begin = start.a.float() * x0
    if type(pipeline.scheduler) is diffusers.EulerDiscreteScheduler:  # which multiplies the noise by this itself
        pipeline.scheduler.set_timesteps(steps)
        begin = begin / start.b.float() / float(pipeline.scheduler.init_noise_sigma)
    theirs = case.run(pipeline, begin, PROMPTS, steps=steps, scale=case.scale)
    # Of the whole range: a solver's differences of predictions make rounding errors larger where latents are near zero.
    torch.testing.assert_close(latents, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=1e-4)
    plain = sampler(model_of(foreign, None), x0, condition, lambda k: torch.randn_like(x0))
    assert case.scale is None or float((plain - latents).abs().max()) > 1e-2, "guidance has an effect"


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_the_pipelines_own(saved, name):
    pipeline, folder = saved(name)
    case = CASES[name]
    foreign = read_small(folder, case)
    x0 = torch.randn(1, *case.shape, generator=torch.Generator().manual_seed(2))
    options = {"steps": 2, "scale": case.scale}
    latents = case.run(pipeline, x0, PROMPTS[:1], **options)
    pictures = case.run(pipeline, x0, PROMPTS[:1], **options, output="pt")
    decoded = PipelineDecoder(folder=folder, pipeline=foreign.arguments["pipeline"])(latents)
    torch.testing.assert_close((decoded / 2 + 0.5).clamp(0, 1), pictures, atol=1e-5, rtol=0)
