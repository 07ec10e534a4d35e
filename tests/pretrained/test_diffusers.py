"""diffusers' folders, against diffusers itself, and the adapters."""

import json

import pytest
import torch
from loguru import logger

from realuid.conditions import LABEL, Condition, Field, class_label
from realuid.models.matching import MatchingModel
from realuid.networks.adapter import DiffusersModel, TorchModule
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Velocity
from realuid.pretrained import components, read
from realuid.utils.errors import CheckpointError
from tests.pretrained.made_up import fill, inputs

diffusers = pytest.importorskip("diffusers")

UNET = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
HO = {"flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-6, "attention_head_dim": None}
DIT = {
    "num_attention_heads": 4,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "sample_size": 8,
    "num_embeds_ada_norm": 3,
}


def unet(**changes):
    return fill(diffusers.UNet2DModel(**(UNET | changes)))


def transformer():
    """Its blocks share one embedding of time and label, as in every converted model."""
    model = fill(diffusers.DiTTransformer2DModel(**DIT))
    shared = model.transformer_blocks[0].norm1.emb.state_dict()
    for block in model.transformer_blocks:
        block.norm1.emb.load_state_dict(shared)
    return model


@pytest.mark.parametrize(
    "changes", [{}, {"num_class_embeds": 3}, HO, {"layers_per_block": 1, "attention_head_dim": 16}]
)
def test_unets(tmp_path, changes):
    model = unet(**changes)
    diffusers.DDPMPipeline(model, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    foreign = read(str(tmp_path))
    assert (foreign.network, foreign.path.name, foreign.target) == ("UNet", "ddpm", "noise")
    assert foreign.path.numbers == {"steps": 1000, "betas": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    x, times, condition = inputs((3, 16, 16))
    given = {"class_labels": condition[LABEL]} if foreign.classes else {}
    for t in (times, 1000 * times):
        wanted = model(x, t, **given).sample
        torch.testing.assert_close(foreign.build()(x, t, condition), wanted, atol=1e-5, rtol=0)


def test_old_names_of_attention_and_a_folder_at_the_root(tmp_path):
    model = unet()
    model.save_config(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = model.state_dict()
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    foreign = read(str(tmp_path))
    x, times, condition = inputs((3, 16, 16))
    torch.testing.assert_close(foreign.build()(x, times, condition), model(x, times).sample, atol=1e-5, rtol=0)
    assert (foreign.path, foreign.target) == (None, None)


def test_transformers(tmp_path):
    model = transformer()
    model.save_pretrained(tmp_path / "transformer")
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    foreign = read(str(tmp_path))
    assert (foreign.network, foreign.path.name, foreign.target, foreign.null) == ("DiT", "linear", "velocity", True)
    assert foreign.path.numbers == {"t_source": 1.0, "t_data": 0.0}
    x, times, condition = inputs((4, 8, 8), labels=(0, 1, 3))
    wanted = model(x, 1000 * times, class_labels=condition[LABEL])  # flow matching shows the network 1000 t
    torch.testing.assert_close(foreign.build()(x, times, condition), wanted.sample[:, :4], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("scheduler", "path", "numbers", "target", "preconditioning"),
    [
        (lambda d: d.DDIMScheduler(prediction_type="v_prediction"), "ddpm", {"betas": "linear"}, "v", "none"),
        (lambda d: d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample"), "ddpm",
         {"betas": "squaredcos_cap_v2", "steps": 1000}, "data", "none"),
        (lambda d: d.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.1), "ddpm",
         {"betas": "scaled_linear", "beta_start": 0.1}, "noise", "none"),
        (lambda d: d.DDPMScheduler(trained_betas=[0.1, 0.2], num_train_timesteps=2), "ddpm",
         {"betas": [0.1, 0.2], "steps": 2}, "noise", "none"),
        (lambda d: d.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), "linear",
         {"t_source": 1.0, "t_data": 0.0}, "velocity", "none"),
        (lambda d: d.EDMEulerScheduler(sigma_data=0.7), "edm", {"sigma_min": 0.002, "sigma_max": 80.0}, "data", "edm"),
    ],
)  # fmt: skip
def test_schedulers(tmp_path, scheduler, path, numbers, target, preconditioning):
    unet().save_pretrained(tmp_path / "unet")
    scheduler(diffusers).save_pretrained(tmp_path / "scheduler")
    foreign = read(str(tmp_path))
    assert (foreign.path.name, foreign.target, foreign.preconditioning.name) == (path, target, preconditioning)
    assert foreign.path.numbers.items() >= numbers.items()


@pytest.mark.parametrize("scheduler", [None, lambda d: d.EDMEulerScheduler(prediction_type="v_prediction")])
def test_conventions_that_nobody_knows_are_said_not_to_be_compared(tmp_path, scheduler):
    unet().save_pretrained(tmp_path / "unet")
    if scheduler is not None:
        scheduler(diffusers).save_pretrained(tmp_path / "scheduler")
    foreign, lines = read(str(tmp_path)), []
    model = MatchingModel(
        network=foreign.build(),
        interpolant=LinearInterpolant(),
        coupling=IndependentCoupling(),
        target=Velocity(),
        preconditioning=NoPreconditioning(),
    )
    handler = logger.add(lines.append, format="{message}")
    components.compare(foreign, model, "here")
    logger.remove(handler)
    assert "here (diffusers) does not say on which path it predicts what" in "".join(lines)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (lambda d: d.DDPMScheduler(rescale_betas_zero_snr=True), "rescale_betas_zero_snr = True leaves no signal"),
        (lambda d: d.DDIMScheduler(rescale_betas_zero_snr=True, beta_schedule="scaled_linear"), "rescale_betas_zero"),
        (lambda d: d.EulerDiscreteScheduler(rescale_betas_zero_snr=True, trained_betas=[0.1, 0.2]), "rescale_betas_z"),
        (lambda d: d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas = True counts time from"),
        (lambda d: d.CogVideoXDDIMScheduler(snr_shift_scale=3.0), "snr_shift_scale = 3.0 shifts the noise"),
    ],
)
def test_settings_that_change_the_path_are_not_passed_over(tmp_path, scheduler, message):
    unet().save_pretrained(tmp_path / "unet")
    scheduler(diffusers).save_pretrained(tmp_path / "scheduler")
    with pytest.raises(CheckpointError, match=f"scheduler_config.json: {message}.*no path of ours") as refusal:
        read(str(tmp_path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_embedding_type": "fourier"}, "no time_embedding_type = 'fourier'"),
        ({"norm_num_groups": 16}, "no norm_num_groups = 16"),
        ({"downsample_type": "resnet"}, "no downsample_type = 'resnet'"),
        ({"block_out_channels": (64, 96, 128)}, "no multiples of the first"),
        ({"down_block_types": ("AttnDownBlock2D",) * 3}, "no up_block_types"),
    ],
)
def test_what_our_unet_cannot_express_is_left_to_the_adapter(tmp_path, changes, message):
    unet().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"{message}.*use the network DiffusersModel"):
        read(str(tmp_path))


def test_weights_that_ours_have_no_place_for_are_not_dropped(tmp_path):
    fill(diffusers.DiTTransformer2DModel(**DIT)).save_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointError, match="embed times and labels differently"):
        read(str(tmp_path / "a"))
    unet().save_config(tmp_path)
    torch.save(unet().state_dict() | {"more.weight": torch.ones(1)}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"the weight more.weight, which our network lacks"):
        read(str(tmp_path))


def test_refusals(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no model: expected config.gin .* unet/config.json"):
        read(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        read(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "Strange"}')
    with pytest.raises(CheckpointError, match=r"holds a Strange, not one of UNet2DModel, DiTTransformer2DModel"):
        read(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(CheckpointError, match=r"has no diffusion_pytorch_model.safetensors or"):
        read(str(tmp_path))


def test_the_adapter_runs_any_model_of_diffusers(tmp_path):
    model = unet(num_class_embeds=3, norm_num_groups=16)
    model.save_pretrained(tmp_path / "unet")
    transformer().save_pretrained(tmp_path / "transformer")
    x, times, condition = inputs((3, 16, 16))
    adapted = DiffusersModel(folder=str(tmp_path / "unet"), classes=3, time_scale=1000.0)
    assert torch.equal(adapted(x, times, condition), model(x, 1000 * times, class_labels=condition[LABEL]).sample)
    x, times, condition = inputs((4, 8, 8))
    adapted = DiffusersModel(folder=str(tmp_path / "transformer"), classes=3, channels=4)
    wanted = transformer()(x, times, class_labels=condition[LABEL]).sample
    assert torch.equal(adapted(x, times, condition), wanted[:, :4])
    with pytest.raises(ValueError, match=r"has no config.json"):
        DiffusersModel(folder=str(tmp_path))


class Recorder(torch.nn.Module):
    """Answers with what it was given."""

    def __init__(self, *, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, t, image, cls=None):
        return {"out": self.factor * torch.cat([image, image + t.view(-1, 1, 1, 1), image + cls.view(-1, 1, 1, 1)], 1)}


def test_the_adapter_runs_any_module():
    x, times, condition = inputs((2, 4, 4))
    network = TorchModule(
        factory="tests.pretrained.test_diffusers:Recorder",
        arguments={"factor": 2.0},
        call=("time", "image=x", "cls=label"),
        result="out",
        time_scale=10.0,
        channels=5,
        classes=3,
    )
    parts = [x, x + 10 * times.view(-1, 1, 1, 1), x + condition[LABEL].view(-1, 1, 1, 1)]
    assert torch.equal(network(x, times, condition), 2 * torch.cat(parts, dim=1)[:, :5])
    assert list(network.state_dict()) == ["model.factor"]


def test_the_adapter_gives_every_field_that_is_named():
    """Class labels, and other fields of the condition; None calls with x, time and all fields in turn."""
    x, times, condition = inputs((2, 4, 4))
    shifted = Condition({**condition, "shift": torch.tensor([5.0, 6.0, 7.0]), "unread": torch.zeros(3)})
    settings = {"factory": "tests.pretrained.test_diffusers:Recorder", "arguments": {"factor": 1.0}, "result": "out"}
    settings |= {"classes": 3, "conditions": (Field("shift"),)}
    network = TorchModule(**settings, call=("time", "image=x", "cls=shift"))
    assert network.conditions == (*class_label(3), Field("shift"))
    shift = shifted["shift"].view(-1, 1, 1, 1)
    assert torch.equal(network(x, times, shifted)[:, 4:], x + shift)
    assert [name for _, name in TorchModule(**settings).call] == ["x", "time", "label", "shift"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factory": "nothing"}, "must name a class or function"),
        ({"factory": "no_such_package:Thing"}, "cannot find 'no_such_package:Thing'"),
        ({"factory": "torch:Thing"}, "cannot find 'torch:Thing'"),
        ({"factory": "collections:OrderedDict"}, "gives a OrderedDict, not a torch module"),
        ({"call": ("x", "time", "label")}, r"call has 'label', not one of x, time; bind TorchModule.classes$"),
        ({"call": ("x", "text"), "classes": 3}, r"call has 'text', not one of x, time, label$"),
        ({"call": ("x", "sigma")}, "call has 'sigma', not one of x, time$"),
    ],
)
def test_the_adapter_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        TorchModule(**({"factory": "torch.nn:Identity"} | changes))
