"""The shipped descriptions of public pipelines: sizes, times, and a small pipeline sampled by its description."""

import re

import diffusers
import numpy as np
import pytest
import torch

from realuid.commands.sample import main as sample
from realuid.config import build, load, load_part, value
from realuid.data.pixels import to_uint8
from realuid.evaluation.draws import noise
from realuid.models.guidance import GuidedModel
from realuid.models.matching import MatchingModel, matching_model_of
from realuid.pretrained.pipelines.guidance import RenormalisedGuidedModel
from realuid.pretrained.pipelines.table import family_of
from tests.commands.conftest import ROOT
from tests.commands.test_described_teachers import networks_without_memory
from tests.pretrained.pipelines.cases import CASES
from tests.pretrained.pipelines.configs import CONFIGS

FILES = {path.stem: path for path in (ROOT / "gin/teachers").glob("*.gin") if "PIPELINE =" in path.read_text()}
DYNAMIC = {"use_dynamic_shifting": True, "base_image_seq_len": 256}
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
LEADING = SD | {"timestep_spacing": "leading", "steps_offset": 1}
SCHEDULERS = {
    "sd3_medium": (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), {}),
    "flux_dev": (diffusers.FlowMatchEulerDiscreteScheduler(**DYNAMIC, base_shift=0.5, max_shift=1.15), {"mu": 1.15}),
    "flux_schnell": (diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0), {}),
    "qwen_image": (
        diffusers.FlowMatchEulerDiscreteScheduler(
            **DYNAMIC, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        {"mu": 0.5 + 0.4 * 3840 / 7936},
    ),
    "sana_1600m": (
        diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, final_sigmas_type="zero"
        ),
        {},
    ),
    "pixart_sigma": (diffusers.DPMSolverMultistepScheduler(beta_schedule="linear"), {}),
    "sdxl": (diffusers.EulerDiscreteScheduler(**LEADING), {}),
    "sd21": (diffusers.DDIMScheduler(**LEADING, prediction_type="v_prediction"), {}),
}
"""As their folders configure them, and what the pipelines tell them beside the number of steps."""


def described(name, monkeypatch):
    networks_without_memory(monkeypatch)
    return build(load_part(FILES[name], root="Teacher"))


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_network_has_the_published_size(name, monkeypatch):
    network = matching_model_of(described(name, monkeypatch).model).network
    told = float(re.search(r"([\d.]+) B weights", FILES[name].read_text())[1])
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e9 == pytest.approx(told, rel=0.01)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_the_grid_is_that_of_the_pipelines_scheduler(name, monkeypatch):
    teacher = described(name, monkeypatch)
    scheduler, options = SCHEDULERS[name]
    steps = 20
    if name.startswith(("flux", "qwen")):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), **options)
    else:
        scheduler.set_timesteps(steps, **options)
    times = teacher.sampler.grid(teacher.model.interpolant, steps)
    scale = 1000 if matching_model_of(teacher.model).target.name == "Velocity" else 1
    wanted = scheduler.timesteps.double()
    # The solver for flows rounds the times to whole numbers.
    torch.testing.assert_close(scale * times[:-1], wanted, atol=1.0 if name.startswith("sana") else 2e-3, rtol=0)
    assert float(times[-1]) == 0
    if scale == 1:
        known = scheduler.alphas_cumprod[wanted.long()].double()
        torch.testing.assert_close(teacher.model.interpolant.at(times[:-1]).b ** 2, known, rtol=1e-5, atol=0)


TEXT = [path.stem for path in sorted((ROOT / "gin").glob("*.gin")) if "distillation_text.gin" in path.read_text()]


@pytest.mark.parametrize("name", TEXT)
def test_a_recipe_distils_the_guided_teacher_of_its_description(name):
    """As the description binds it: guided without a classifier where the pipeline is, by the same scale."""
    recipe = load([ROOT / "gin" / f"{name}.gin"])
    kind = value(recipe, "method", "teacher", "model").kind.target
    pipeline = family_of(value(recipe, "method", "teacher", "encoder", "pipeline"))
    guided = RenormalisedGuidedModel if pipeline.renormalised else GuidedModel
    assert kind is (guided if pipeline.guided else MatchingModel)
    if pipeline.guided:
        (included,) = re.findall(r"include '(gin/teachers/.*)'", (ROOT / "gin" / f"{name}.gin").read_text())
        described = load_part(ROOT / included, root="Teacher")
        assert value(recipe, "method", "teacher", "model", "scale") == value(described, "model", "scale") > 1


SMALL = """
include 'gin/teachers/sd3_medium.gin'
TEACHER = {folder!r}
CONFIG = {config!r}
SHAPE = (4, 8, 12)
TOKENS = 93
SAMPLER_STEPS = 3
GuidedModel.scale = 4.0
PipelineEncoder.dtype = 'float32'
"""


def test_prompts_are_sampled_from_a_description(saved, tmp_path, monkeypatch, capsys):
    pipeline, folder = saved("StableDiffusion3Pipeline")
    monkeypatch.chdir(tmp_path)
    gin = tmp_path / "small.gin"
    gin.write_text(SMALL.format(folder=folder, config=CONFIGS["StableDiffusion3Pipeline"]))
    command = ["--gin", str(gin), "--num", "3", "--out", "x.npz"]
    assert sample([*command, "--prompts", "a red cube", "two dogs"]) == 0
    prompts = ["a red cube", "two dogs", "a red cube"]
    x0 = noise(0, 0, 3, (4, 8, 12))
    pictures = CASES["StableDiffusion3Pipeline"].run(pipeline, x0, prompts, steps=3, scale=4.0, output="pt")
    wanted = to_uint8(2 * pictures - 1).permute(0, 2, 3, 1).numpy().astype(int)
    found = np.load("x.npz", allow_pickle=False)["images"].astype(int)
    assert found.shape == (3, 64, 96, 3)
    assert np.abs(found - wanted).max() <= 1
    assert sample(command) == 2
    assert "the teacher starts with --prompts" in capsys.readouterr().err
