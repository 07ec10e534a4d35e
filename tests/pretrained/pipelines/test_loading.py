"""A pipeline as the teacher that a gin file binds: loaded where it agrees, refused in one line where it does not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from loguru import logger

from realuid.commands.inspect_checkpoint import main as inspect
from realuid.conditions import Condition
from realuid.config import build, load_part
from realuid.distillation.teachers import Teacher
from realuid.models.guidance import GuidedModel
from realuid.models.matching import MatchingModel
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import ExpressionInterpolant, LinearInterpolant
from realuid.paths.preconditioning import EDMPreconditioning, NoPreconditioning
from realuid.paths.targets import Data, Noise, Velocity
from realuid.pretrained import read
from realuid.pretrained.loading import load_weights
from realuid.pretrained.pipelines.encoder import PipelineEncoder
from realuid.pretrained.pipelines.grids import FlowMatchGrid
from realuid.pretrained.pipelines.guidance import RenormalisedGuidedModel
from realuid.pretrained.pipelines.network import PipelineNetwork
from realuid.samplers import Euler
from realuid.utils.errors import CheckpointError, RunError
from tests.pretrained.pipelines.configs import CONFIGS
from tests.pretrained.pipelines.small import random_weights

NAME = "StableDiffusion3Pipeline"
FLOW = {"a": "t", "b": "1 - t", "t_source": 1.0, "t_data": 0.0}


def bound(network=None, **changes):
    arguments = {"pipeline": NAME, "config": CONFIGS[NAME], "shape": (4, 8, 8), "tokens": 93, "time_scale": 1000.0}
    parts = {
        "network": PipelineNetwork(**(arguments | (network or {}))),
        "interpolant": ExpressionInterpolant(**FLOW),
        "coupling": IndependentCoupling(),
        "target": Velocity(),
        "preconditioning": NoPreconditioning(),
    }
    return MatchingModel(**(parts | changes))


def test_a_teacher_is_loaded_with_its_null_condition(saved):
    pipeline, folder = saved(NAME)
    model = bound()
    teacher = Teacher(
        model=GuidedModel(model=model, scale=4.0),
        sampler=Euler(steps=2, grid=FlowMatchGrid(shift=3.0)),
        checkpoint=folder,
    )
    teacher.load()
    state = pipeline.transformer.state_dict()
    assert all(torch.equal(model.network.state_dict()[f"model.{name}"], value) for name, value in state.items())
    empty, _, pooled, _ = pipeline.encode_prompt(
        prompt="", prompt_2=None, prompt_3=None, do_classifier_free_guidance=False, max_sequence_length=16
    )
    torch.testing.assert_close(model.network.null_text, empty[0])
    torch.testing.assert_close(model.network.null_pooled, pooled[0])
    assert teacher.foreign.null
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("grid", "told"),
    [(FlowMatchGrid(shift=3.0, last=3 / 1002), 0), (FlowMatchGrid(shift=1.0), 1), (FlowMatchGrid(shift=3.0), 1)],
)
def test_other_times_than_the_schedulers_are_told(saved, grid, told):
    lines = []
    number = logger.add(lines.append, level="WARNING", format="{message}")
    Teacher(model=bound(), sampler=Euler(steps=8, grid=grid), checkpoint=saved(NAME)[1]).load()
    logger.remove(number)
    assert len(lines) == told
    assert all("@FlowMatchGrid() with shift = 3.0, last = 0.00299" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"config": CONFIGS[NAME] | {"qk_norm": None}}}, r"has qk_norm = 'rms_norm', .*config with None$"),
        ({"network": {"time_scale": 1.0}}, r"has time_scale = 1000.0, .* binds 1.0$"),
        ({"interpolant": LinearInterpolant()}, r"bind @ExpressionInterpolant\(\) with a = 't', b = '1 - t'"),
        ({"target": Noise()}, r"predicts velocity .* bind @Velocity\(\)$"),
        ({"preconditioning": EDMPreconditioning()}, r"bind @NoPreconditioning\(\)$"),
    ],
)
def test_other_conventions_are_refused(saved, changes, message):
    with pytest.raises(CheckpointError, match=message):
        load_weights(bound(**changes), saved(NAME)[1])


def test_bfloat16_and_another_resolution_are_the_binding_s_own(saved):
    model = bound({"dtype": "bfloat16", "shape": (4, 12, 8), "tokens": 80})
    load_weights(model, saved(NAME)[1])
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert model.network.null_text.shape == (80, 64)
    assert "time_scale" not in read(saved(NAME)[1], known={"shape": (4, 12, 8)}).state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pipeline": "Nothing"}, r"no entry for the pipeline 'Nothing', only for .*StableDiffusion3Pipeline"),
        ({"shape": (3, 8, 8)}, "has latents of 4 channels"),
        ({"guidance": 3.5}, "is told no guidance scale"),
        ({"config": {"layers": 3}}, "SD3Transformer2DModel of diffusers .* has no argument layers"),
        ({"dtype": "int64"}, "dtype = 'int64' is no floating-point type"),
    ],
)
def test_arguments_that_do_not_suit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bound(arguments)


def copied(folder, place):
    shutil.copytree(folder, place)
    return Path(place)


def test_incomplete_folders_are_refused_in_one_line(saved, tmp_path):
    folder = saved(NAME)[1]
    with pytest.raises(CheckpointError, match=r"^there is no folder .*nowhere$"):
        read(str(tmp_path / "nowhere"), "diffusers")
    one = copied(folder, tmp_path / "one")
    (one / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no scheduler/scheduler_config.json$"):
        read(str(one))
    two = copied(folder, tmp_path / "two")
    index = json.loads((two / "model_index.json").read_text())
    (two / "model_index.json").write_text(json.dumps(index | {"text_encoder_3": [None, None]}))
    with pytest.raises(CheckpointError, match=r"has no text_encoder_3, which a StableDiffusion3Pipeline needs$"):
        read(str(two))
    three = copied(folder, tmp_path / "three")
    (three / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"transformer has no diffusion_pytorch_model.safetensors$"):
        read(str(three))
    four = copied(folder, tmp_path / "four")
    content = (four / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    (four / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"is not a readable safetensors file"):
        read(str(four))


def test_weights_in_several_files(saved, tmp_path):
    pipeline, folder = saved(NAME)
    place = copied(folder, tmp_path / "sharded")
    shutil.rmtree(place / "transformer")
    pipeline.transformer.save_pretrained(place / "transformer", max_shard_size="20KB")
    assert len(list((place / "transformer").glob("*.safetensors"))) > 1
    whole, parts = read(folder, known={"tokens": 93}).state, read(str(place), known={"tokens": 93}).state
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    next((place / "transformer").glob("*00001-of-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"lacks diffusion_pytorch_model-00001-of-.*, which .* lists$"):
        read(str(place))


def test_a_folder_cannot_ask_for_code_or_for_more_than_it_holds(saved, tmp_path):
    folder = saved(NAME)[1]
    one = copied(folder, tmp_path / "one")
    index = json.loads((one / "model_index.json").read_text())
    (one / "model_index.json").write_text(json.dumps(index | {"text_encoder": ["os", "system"]}))
    with pytest.raises(CheckpointError, match=r"its text_encoder is of 'os', not of transformers or diffusers$"):
        read(str(one))
    two = copied(folder, tmp_path / "two")
    config = json.loads((two / "transformer/config.json").read_text())
    (two / "transformer/config.json").write_text(json.dumps(config | {"num_layers": 10**7}))
    with pytest.raises(CheckpointError, match=r"does not suit PipelineNetwork: .*(more layers|would take)"):
        read(str(two))
    three = copied(folder, tmp_path / "three")
    (three / "transformer/config.json").write_text(json.dumps(config | {"_class_name": "FluxTransformer2DModel"}))
    with pytest.raises(CheckpointError, match=r"holds a FluxTransformer2DModel, not a SD3Transformer2DModel$"):
        read(str(three))


def test_the_description_of_a_pipeline_is_its_teacher(saved, tmp_path, capsys):
    folder = saved("QwenImagePipeline")[1]
    assert inspect([folder]) == 0
    (tmp_path / "mine.gin").write_text(capsys.readouterr().out)
    teacher = build(load_part(tmp_path / "mine.gin", root="Teacher"))
    teacher.load()
    assert teacher.sampler.grid.terminal == 0.02
    assert teacher.encoder.fields[1].name == "mask"


def test_guidance_is_that_of_the_pipeline(saved):
    folder = saved("QwenImagePipeline")[1]
    network = PipelineNetwork(
        pipeline="QwenImagePipeline", config=CONFIGS["QwenImagePipeline"], shape=(4, 8, 8), tokens=320, time_scale=1.0
    )
    model = bound(network=None)
    model.network = network
    with pytest.raises(CheckpointError, match=r"guides by @RenormalisedGuidedModel\(\), .* binds @GuidedModel\(\)$"):
        load_weights(GuidedModel(model=model, scale=4.0), folder)
    load_weights(RenormalisedGuidedModel(model=model, scale=4.0), folder)


def test_renormalised_guidance_keeps_the_norm_of_every_patch():
    """Of the native target; another one follows from it by the path."""
    network = PipelineNetwork(pipeline=NAME, config=CONFIGS[NAME], shape=(4, 8, 8), tokens=93, time_scale=1000.0)
    random_weights(network.model)
    model = bound()
    model.network = network
    condition = Condition({f.name: torch.randn(3, *f.sizes) for f in network.conditions})
    x, t = torch.randn(3, 4, 8, 8), torch.full((3,), 0.6, dtype=torch.float64)
    guided = RenormalisedGuidedModel(model=model, scale=5.0)
    with torch.no_grad():
        plain, answer = (m.predict(x, t, condition, Velocity()) for m in (model, guided))
        data = guided.predict(x, t, condition, Data())
        late = RenormalisedGuidedModel(model=model, scale=5.0, high=0.5).predict(x, t, condition, Velocity())

    def norms(y):
        return y.unfold(2, 2, 2).unfold(3, 2, 2).square().sum(dim=(1, 4, 5)).sqrt()

    torch.testing.assert_close(norms(answer), norms(plain))
    assert float((answer - plain).abs().max()) > 0.1
    torch.testing.assert_close(data, x - 0.6 * answer)
    torch.testing.assert_close(late, plain)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("module", "transformers.py is code, which is not run"),
        ("pipeline", "no model, tokeniser or processor DiffusionPipeline"),
        ("index", "which is no file of weights in its folder"),
    ],
)
def test_hostile_parts_are_refused_before_diffusers_sees_them(saved, tmp_path, change, words):
    """Old versions import what lies beside a part; a part may be a pipeline; a list of weights may name any file."""
    _, original = saved(NAME)
    folder = tmp_path / "pipeline"
    shutil.copytree(original, folder)
    if change == "module":
        (folder / "text_encoder" / "transformers.py").write_text("raise SystemExit('run')\n")
    elif change == "pipeline":
        index = json.loads((folder / "model_index.json").read_text())
        index["text_encoder"] = ["diffusers", "DiffusionPipeline"]
        (folder / "model_index.json").write_text(json.dumps(index))
    else:
        listed = {"weight_map": {"weight": "../secret.bin"}}
        (folder / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(listed))
    encoder = PipelineEncoder(folder=str(folder), pipeline=NAME, config=CONFIGS[NAME], tokens=93)
    with pytest.raises(RunError, match=words):
        encoder(["a red cube"])


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"shape": (16, 8)}, "not three whole numbers"),
        ({"shape": "abc"}, "not three whole numbers"),
        ({"tokens": 7.5}, "not a whole number"),
        ({"guidance": "much"}, "not a number"),
    ],
)
def test_what_is_told_and_cannot_be_is_named(saved, known, words):
    with pytest.raises(CheckpointError, match=f"known has .*{words}"):
        read(saved(NAME)[1], known=known)


@pytest.mark.parametrize(
    ("setting", "value"), [("invert_sigmas", True), ("snr_shift_scale", 3.0), ("rescale_betas_zero_snr", True)]
)
def test_a_scheduler_on_another_path_is_refused(saved, tmp_path, setting, value):
    folder = tmp_path / "pipeline"
    shutil.copytree(saved(NAME)[1], folder)
    place = folder / "scheduler" / "scheduler_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {setting: value}))
    with pytest.raises(CheckpointError, match=setting):
        read(str(folder))
