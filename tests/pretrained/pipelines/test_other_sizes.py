"""A network of a pipeline at sizes other than its own: the pipeline's answers there, or a line that says why not."""

import pytest
import torch

from tests.pretrained.pipelines.cases import CASES
from tests.pretrained.pipelines.test_pipelines import PROMPTS, Recorder, encoder_of, model_of, read_small

NAMES = [name for name in sorted(CASES) if " v" not in name]
PATCHED = ("StableDiffusion3Pipeline", "FluxPipeline", "QwenImagePipeline", "PixArtSigmaPipeline")


QUICK = {"FluxPipeline", "StableDiffusionXLPipeline"}
"""One that packs its samples and one that is told their size."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in NAMES])
def test_the_network_answers_as_the_pipeline_at_another_size(saved, name):
    """Ids, positions and what is told of sizes are those of what it is given, not of the shape that is bound."""
    pipeline, folder = saved(name)
    case = CASES[name]
    channels, height, width = case.shape
    foreign = read_small(folder, case)
    model, condition = model_of(foreign, None), encoder_of(folder, foreign)(PROMPTS)
    for shape in ((channels, width, height), (channels, height, height)):
        assert model.network.unfit(shape) is None
        x0 = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        with Recorder(pipeline.scheduler) as calls, torch.no_grad():
            case.run(pipeline, x0, PROMPTS, steps=2, scale=None)
            for output, time, sample in calls:
                t = torch.full((2,), time / (1000 if foreign.path.name == "linear" else 1), dtype=torch.float64)
                if type(pipeline.scheduler).__name__ == "EulerDiscreteScheduler":  # it steps through x / b
                    sample = sample * model.interpolant.at(t[:1]).b.float()
                answer = model(case.unpacked(sample, x0), t, condition)
                torch.testing.assert_close(answer, case.unpacked(output, x0)[:, :channels], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PATCHED)
def test_sizes_that_are_not_taken_are_told(saved, name):
    _, folder = saved(name)
    case = CASES[name]
    foreign = read_small(folder, case)
    network, condition = foreign.build(), encoder_of(folder, foreign)(PROMPTS[:1])
    patch = network.family.patch(dict(network.model.config))
    wrong = {(case.shape[0], 8, 12 + 1): f"multiples of {patch}"} if patch > 1 else {}
    if most := network.model.config.get("pos_embed_max_size"):
        wrong[case.shape[0], 8, (most + 1) * patch] = f"a table of positions for {most * patch} latents a side"
    assert wrong
    assert "own shape" in network.unfit((case.shape[0] + 1, 8, 12))
    for shape, words in wrong.items():
        assert words in network.unfit(shape)
        assert not answered(network, condition, shape)
        fits = (shape[0], 8, 12)
        assert network.unfit(fits) is None
        assert answered(network, condition, fits)


@torch.no_grad()
def answered(network, condition, shape):
    """Whether there is an answer of the same shape; diffusers, einops and torch raise errors of their own."""
    try:
        return network(torch.zeros(1, *shape), torch.tensor([0.5]), condition).shape[1:] == shape
    except Exception:
        return False
