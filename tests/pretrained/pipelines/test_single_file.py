"""The network of a pipeline from one file in the names of its own project, beside the folder of all other parts."""

import hashlib
import json
import shutil

import diffusers
import pytest
import safetensors.torch
import torch

from realuid.commands.inspect_checkpoint import main as inspect
from realuid.config import build, load_part
from realuid.distillation.teachers import Teacher
from realuid.models.guidance import GuidedModel
from realuid.pretrained import read
from realuid.pretrained.loading import load_weights
from realuid.pretrained.pipelines import single_file
from realuid.pretrained.pipelines.grids import FlowMatchGrid
from realuid.pretrained.pipelines.table import FAMILIES
from realuid.samplers import Euler
from realuid.utils.errors import CheckpointError
from tests.pretrained.pipelines import originals
from tests.pretrained.pipelines.cases import CASES
from tests.pretrained.pipelines.test_loading import bound

SD3, SD, SDXL, SANA, FLUX, PIXART = (
    f"{name}Pipeline"
    for name in ("StableDiffusion3", "StableDiffusion", "StableDiffusionXL", "Sana", "Flux", "PixArtSigma")
)


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch):
    """A request to the hub is an error."""
    from huggingface_hub import HfApi

    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(HfApi, "repo_info", asked)
    monkeypatch.setattr("huggingface_hub.file_download.hf_hub_download", asked)


def network(pipeline):
    return getattr(pipeline, FAMILIES[type(pipeline).__name__].place)


def original(pipeline):
    """The weights of its network in the names of its own project."""
    state = {name: value.clone() for name, value in network(pipeline).state_dict().items()}
    names = {SD3: originals.sd3, SANA: originals.sana, PIXART: originals.pixart}.get(type(pipeline).__name__)
    return originals.ldm_unet(state, levels=2, layers=1) if names is None else names(state)


def file_of(folder, state, prefix=originals.PREFIX, metadata=None):
    path = folder / "model.safetensors"
    content = {prefix + name: value.contiguous() for name, value in state.items()}
    safetensors.torch.save_file(content, path, metadata)
    return path


def changed(state, prefix="", **values):
    return {**{prefix + name: value for name, value in state.items()}, **values}


@pytest.mark.parametrize("name", [SD3, SD, SDXL, SANA, PIXART])
@pytest.mark.parametrize("prefix", [originals.PREFIX, ""])
def test_a_file_is_the_pipeline_s_own_network_bit_for_bit(saved, tmp_path, name, prefix):
    pipeline, folder = saved(name)
    case = CASES[name]
    path = file_of(tmp_path, original(pipeline), prefix)
    told = {"shape": case.shape, "tokens": case.tokens}
    found, wanted = read(str(path), known={"folder": folder, **told}), read(folder, known=told)
    assert found.state.keys() == wanted.state.keys()
    assert all(torch.equal(value, found.state[key]) for key, value in wanted.state.items())
    assert (found.path, found.target, found.scaling, found.steps) == (
        wanted.path,
        wanted.target,
        wanted.scaling,
        wanted.steps,
    )
    assert found.folder == folder
    built = found.build().state_dict()
    assert all(torch.equal(value, built[f"model.{key}"]) for key, value in network(pipeline).state_dict().items())


def test_other_parts_in_the_file_are_left_alone(saved, tmp_path):
    pipeline, folder = saved(SD)
    others = {
        "first_stage_model.decoder.conv_in.weight": torch.zeros(3),
        "cond_stage_model.position_ids": torch.ones(1),
    }
    path = file_of(tmp_path, changed(original(pipeline), originals.PREFIX) | others, "")
    assert read(str(path), known={"folder": folder}).weights == "model"


def test_averages_are_taken_where_there_are_any(saved, tmp_path):
    pipeline, folder = saved(SD)
    state = original(pipeline)
    other = {name: value + 1 for name, value in state.items()}
    both = changed(other, originals.PREFIX) | originals.averaged(state)
    path = str(file_of(tmp_path, both, ""))
    own = network(pipeline).state_dict()
    for which, shift in ((None, 0), ("ema", 0), ("model", 1)):
        found = read(path, weights=which, known={"folder": folder})
        assert found.weights == which or (which is None and found.weights == "ema")
        torch.testing.assert_close(found.state["model.conv_in.weight"], own["conv_in.weight"] + shift, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match=r"has no weights 'best', only ema and model$"):
        read(path, weights="best", known={"folder": folder})
    del both["model_ema.diffusion_modelout2bias"]
    path = str(file_of(tmp_path, both, ""))
    with pytest.raises(CheckpointError, match=r"lacks the average model_ema.diffusion_modelout2bias: bind Teacher.ema"):
        read(path, known={"folder": folder})


def test_flux_of_its_published_width(monkeypatch, tmp_path):
    """Names and shapes alone: diffusers knows one width."""
    config = {"num_layers": 2, "num_single_layers": 2, "guidance_embeds": True}
    with torch.device("meta"):
        state = diffusers.FluxTransformer2DModel(**config).state_dict()
    file = single_file.SingleFile(file_of(tmp_path, {"x": torch.zeros(1)}), "flux1-dev.safetensors")
    monkeypatch.setattr(single_file, "stored", lambda _: 1 << 40)
    file.tensors = originals.flux(state)
    which, found = file.weights(FAMILIES[FLUX], config, "folder")
    assert which == "model"
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in state.items()}
    file.tensors = {name: value for name, value in file.tensors.items() if "guidance" not in name}
    with pytest.raises(CheckpointError, match=r"flux1-dev.safetensors lacks time_text_embed.guidance_embedder"):
        file.weights(FAMILIES[FLUX], config, "folder")


@pytest.mark.parametrize("name", ["PixArtSigmaPipeline", "QwenImagePipeline"])
@pytest.mark.parametrize("prefix", [originals.PREFIX, ""])
def test_a_file_in_diffusers_own_names(saved, tmp_path, name, prefix):
    """Which are Qwen-Image's own."""
    pipeline, folder = saved(name)
    path = file_of(tmp_path, network(pipeline).state_dict(), prefix)
    found = read(str(path), known={"folder": folder, "tokens": CASES[name].tokens})
    assert torch.equal(found.state["model.proj_out.weight"], pipeline.transformer.proj_out.weight)


def test_names_that_nothing_converts(saved, tmp_path):
    _, folder = saved("QwenImagePipeline")
    path = file_of(tmp_path, {"blocks.0.mlp.fc1.weight": torch.zeros(400_000)}, "")
    with pytest.raises(CheckpointError, match=r"holds no QwenImageTransformer2DModel"):
        read(str(path), known={"folder": folder})


def test_what_is_not_all_of_pixart_is_told(saved, tmp_path):
    """Parts of other versions that have no place, weights that are missing, and the network of another project."""
    pipeline, folder = saved(PIXART)
    state, told = original(pipeline), {"folder": folder, "tokens": CASES[PIXART].tokens}
    for wrong, words in (
        (changed(state, **{"blocks.0.attn.sr.weight": torch.zeros(3)}), r"has blocks.0.attn.sr.weight, for which the"),
        (changed(state, **{"blocks.0.attn.qkv.weight": torch.tensor(1.0)}), r"is no PixArtTransformer2DModel that is"),
        (without(state, "blocks.1.mlp.fc2"), r"lacks transformer_blocks.1.ff.net.2.weight"),
        (without(state, "y_embedder.y_proj.fc1.bias"), r"lacks caption_projection.linear_1.bias"),
    ):
        with pytest.raises(CheckpointError, match=words):
            read(str(file_of(tmp_path, wrong, "")), known=told)
    other, place = saved(SANA)
    with pytest.raises(CheckpointError, match=r"holds a PixArtTransformer2DModel, .* is a SanaPipeline$"):
        read(str(file_of(tmp_path, state, "")), known={"folder": place})
    with pytest.raises(CheckpointError, match=r"for which the PixArtTransformer2DModel of the folder has no place"):
        read(str(file_of(tmp_path, original(other), "")), known=told)
    _, sd3 = saved(SD3)
    with pytest.raises(CheckpointError, match=r"holds a SanaTransformer2DModel"):
        read(str(file_of(tmp_path, original(other), "")), known={"folder": sd3})


def test_a_teacher_of_a_file(saved, tmp_path, capsys):
    """Loaded, pinned, named; and described by `inspect` so that the description loads it again."""
    pipeline, folder = saved(SD3)
    path = file_of(tmp_path, original(pipeline))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def teacher(**changes):
        model = GuidedModel(model=bound(), scale=4.0)
        sampler = Euler(steps=2, grid=FlowMatchGrid(shift=3.0))
        arguments = {"checkpoint": str(path), "known": {"folder": folder}, "sha256": digest} | changes
        return Teacher(model=model, sampler=sampler, **arguments)

    one, other = teacher(), teacher(checkpoint=folder, known=None, sha256=None)
    one.load()
    other.load()
    assert one.checksum == other.checksum
    assert one.ema == "model"
    with pytest.raises(CheckpointError, match=r"has the sha256 .*, not 00"):
        teacher(sha256="00").load()
    with pytest.raises(CheckpointError, match=r"bind Teacher.known = \{'folder': %TEACHER\}"):
        teacher(known=None).load()
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none.safetensors"):
        teacher(checkpoint=str(tmp_path / "none.safetensors")).load()
    assert inspect([str(path), "--known", f"folder={folder}", "--known", "tokens=93"]) == 0
    (tmp_path / "mine.gin").write_text(capsys.readouterr().out)
    described = build(load_part(tmp_path / "mine.gin", root="Teacher"))
    assert (described.checkpoint, described.encoder.folder, described.decoder.folder) == (str(path), folder, folder)
    described.load()
    assert torch.equal(described.model.network.null_text, one.model.model.network.null_text)


def quantised(state):
    return {name: value.to(torch.float8_e4m3fn) if value.ndim > 1 else value for name, value in state.items()}


def without(state, part):
    return {name: value for name, value in state.items() if part not in name}


REFUSED = {
    "fp8": (quantised, r"is float8_e4m3fn, of a quantised copy: take the file in 16 or 32 bits$"),
    "fewer weights": (
        lambda state: without(state, "joint_blocks.1.x_block.attn.proj"),
        r"lacks joint_blocks.1.x_block",
    ),
    "fewer blocks": (lambda state: without(state, "attn2"), r"lacks transformer_blocks.0.attn2.* which the SD3Trans"),
    "more weights": (lambda state: changed(state, extra=torch.zeros(3)), r"has extra, for which the SD3Transformer2DM"),
    "another shape": (
        lambda state: changed(state, **{"x_embedder.proj.bias": torch.zeros(7)}),
        r"pos_embed.proj.bias is \[7\], the SD3Transformer2DModel of .* has \[32\]$",
    ),
    "another architecture": (
        lambda _: {"double_blocks.0.img_attn.qkv.weight": torch.zeros(3)},
        r"holds a FluxTransformer2DModel, .* is a StableDiffusion3Pipeline$",
    ),
    "nothing known": (
        lambda _: {"decoder.conv_in.weight": torch.zeros(400_000)},
        r"holds no SD3Transformer2DModel: it",
    ),
    "a LoRA": (
        lambda _: {"transformer.x.lora_A.weight": torch.zeros(3)},
        r"holds .*lora_A.weight, of a LoRA: adapters are no network",
    ),
    "another LoRA": (lambda _: {"lora_unet_x.lora_down.weight": torch.zeros(3)}, r"of a LoRA"),
    "not finite": (lambda state: changed(state, pos_embed=state["pos_embed"] / 0), r"is not finite$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_network_is_one_line(saved, tmp_path, case):
    pipeline, folder = saved(SD3)
    change, message = REFUSED[case]
    path = file_of(tmp_path, change(original(pipeline)))
    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(bound(), str(path), known={"folder": folder})
    assert "\n" not in str(error.value)


def test_what_is_no_safetensors_is_one_line(saved, tmp_path):
    pipeline, folder = saved(SD3)
    torch.save(original(pipeline), tmp_path / "model.ckpt")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\0" * 60)
    for name, nature in (("model.ckpt", "a .ckpt or .pt file"), ("model.gguf", "GGUF, a quantised copy")):
        with pytest.raises(CheckpointError, match=rf"{name} is {nature}, not safetensors"):
            load_weights(bound(), str(tmp_path / name), known={"folder": folder})
    path = file_of(tmp_path, original(pipeline))
    with pytest.raises(
        CheckpointError, match=r"holds the network of a text-to-image pipeline alone: .* --known folder="
    ):
        read(str(path))
    with pytest.raises(CheckpointError, match=r"is no folder of a pipeline of StableDiffusion3Pipeline, "):
        read(str(path), known={"folder": str(tmp_path)})


def test_a_folder_that_asks_for_more_than_the_file_holds(saved, tmp_path):
    pipeline, original_folder = saved(SD3)
    folder = shutil.copytree(original_folder, tmp_path / "folder")
    place = folder / "transformer" / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"num_layers": 10**7}))
    path = file_of(tmp_path, original(pipeline))
    with pytest.raises(CheckpointError, match=r"does not suit the SD3Transformer2DModel of .*(more layers|would take)"):
        read(str(path), known={"folder": str(folder)})


def test_what_a_file_says_of_its_target_is_compared(saved, tmp_path):
    pipeline, folder = saved(SD)
    state = original(pipeline)
    path = file_of(tmp_path, changed(state, originals.PREFIX, v_pred=torch.zeros(0)), "")
    with pytest.raises(CheckpointError, match=r"says that it predicts v, the folder's scheduler noise$"):
        read(str(path), known={"folder": folder})
    path = file_of(tmp_path, state, metadata={"modelspec.prediction_type": "v"})
    with pytest.raises(CheckpointError, match=r"says that it predicts v, the folder's scheduler noise$"):
        read(str(path), known={"folder": folder})
    path = file_of(tmp_path, state, metadata={"modelspec.prediction_type": "epsilon"})
    read(str(path), known={"folder": folder})
    path = file_of(tmp_path, changed(state, originals.PREFIX, ztsnr=torch.zeros(0)), "")
    with pytest.raises(CheckpointError, match=r"its schedule ends in pure noise"):
        read(str(path), known={"folder": folder})
