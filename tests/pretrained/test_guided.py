"""U-Nets with guided-diffusion's names: against `torchcfm` itself, and the files of its relatives."""

import os
import pickle

import pytest
import torch

from realuid.conditions import LABEL
from realuid.networks.unet import UNet
from realuid.pretrained import read
from realuid.utils.errors import CheckpointError
from tests.pretrained.made_up import fill, inputs, numbers, weights

KNOWN = {"shape": (3, 16, 16), "head_channels": 16}


def theirs(**changes):
    """A network of torchcfm with made-up weights."""
    wrapper = pytest.importorskip("torchcfm.models.unet.unet").UNetModelWrapper
    settings = {
        "dim": (3, 16, 16),
        "num_channels": 32,
        "num_res_blocks": 2,
        "channel_mult": [1, 2, 2],
        "num_heads": 4,
        "num_head_channels": 16,
        "attention_resolutions": "8",
    }
    return fill(wrapper(**(settings | changes)))


def saved(path, content):
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("times", [1.0, 1000.0])
@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, {}),
        ({"class_cond": True, "num_classes": 3}, {}),
        ({"use_scale_shift_norm": True}, {}),
        ({"resblock_updown": True}, {}),
        ({"num_heads": 2, "num_head_channels": -1}, {"heads": 2}),
        ({"use_new_attention_order": True}, {"attention_order": "new"}),
        ({"learn_sigma": True}, {}),
        ({"attention_resolutions": "16,4", "num_res_blocks": 1}, {}),
        ({"channel_mult": [2, 1]}, {}),
        ({"channel_mult": [1]}, {}),
    ],
)
def test_a_file_of_torchcfm_answers_as_torchcfm(tmp_path, changes, known, times):
    network = theirs(**changes)
    content = {"net_model": network.state_dict(), "ema_model": network.state_dict(), "step": 7}
    foreign = read(saved(tmp_path / "x.pt", content), known=KNOWN | known)
    x, t, condition = inputs((3, 16, 16))
    wanted = network(times * t, x, condition[LABEL] if foreign.classes else None)[:, :3]
    torch.testing.assert_close(foreign.build()(x, times * t, condition), wanted, atol=1e-5, rtol=0)
    assert (foreign.format, foreign.weights, foreign.target) == ("torchcfm", "ema_model", "velocity")
    assert (foreign.path.name, foreign.path.numbers) == ("linear", {"t_source": 0.0, "t_data": 1.0})
    assert (foreign.classes, foreign.null) == (changes.get("num_classes", 0), False)


SMALL = {"shape": (3, 8, 8), "width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "head_channels": 32}
ADM = SMALL | {"classes": 3, "conditioning": "scale_shift", "resampling": "block"}


def test_the_network_answers_as_guided_diffusions():
    """What openai/guided-diffusion (22e0df8) answers with these weights and inputs."""
    x, times, condition = inputs((3, 8, 8))
    expected = [-1.104105, -1.370026, 0.179805, -1.404083, 0.074694, -1.862514, -1.617168, -0.194846]
    assert numbers(fill(UNet(**ADM))(x, 100 * times, condition)) == pytest.approx(expected, abs=1e-5)


def state(scale=1.0, **changes):
    return {name: scale * value for name, value in fill(UNet(**(SMALL | changes))).state_dict().items()}


@pytest.mark.slow
def test_files_of_realuids_authors(tmp_path):
    head = {"cls_pred_branch.0.weight": torch.ones(256, 256, 2, 2)}
    sets = {"0.999": state(1.0) | head, "0.9996": state(2.0) | head}
    content = {
        "gen": state(3.0) | head,
        "u": state(4.0) | head,
        "ema_gens": sets,
        "sched": {"last_epoch": 3},
        "step": 1,
    }
    path = saved(tmp_path / "x.pt", content)
    known = {"shape": (3, 8, 8), "head_channels": 32}
    for weights_name, scale in ((None, 1.0), ("ema 0.999", 1.0), ("ema 0.9996", 2.0), ("gen", 3.0), ("u", 4.0)):
        foreign = read(path, known=known, weights=weights_name)
        assert torch.equal(foreign.state["out.2.bias"], state(scale)["out.2.bias"])
        assert foreign.weights == (weights_name or "ema 0.999")
    assert foreign.format == "realuid-authors"
    assert set(foreign.extra) == set(head)
    with pytest.raises(CheckpointError, match=r"no weights 'ema 0.5', only 'ema 0.999', 'ema 0.9996', 'gen', 'u'"):
        read(path, known=known, weights="ema 0.5")
    teacher = saved(tmp_path / "teacher.pt", {"net_model": state(5.0), "ema_models": {"0.999": state(1.0)}})
    assert read(teacher, known=known).format == "realuid-authors"
    assert torch.equal(read(teacher, known=known, weights="net_model").state["out.2.bias"], state(5.0)["out.2.bias"])


def test_files_of_i2sb(tmp_path):
    arguments = SMALL | {"conditioning": "scale_shift", "resampling": "block"}
    net = {f"diffusion_model.{name}": value for name, value in state(**arguments).items()}
    shadow = [2 * value for value in net.values()]
    content = {"net": net, "ema": {"decay": 0.99, "num_updates": 3, "shadow_params": shadow}, "sched": None}
    path = saved(tmp_path / "latest.pt", content)
    known = {"shape": (3, 8, 8), "head_channels": 32}
    foreign = read(path, known=known)
    assert (foreign.format, foreign.weights, foreign.target, foreign.path.name) == ("i2sb", "ema", "i2sb", "i2sb")
    assert torch.equal(foreign.state["out.2.bias"], 2 * net["diffusion_model.out.2.bias"])
    assert torch.equal(read(path, known=known, weights="net").state["out.2.bias"], net["diffusion_model.out.2.bias"])
    assert read(path).arguments["shape"] == (3, 256, 256)
    assert foreign.arguments["resampling"] == "block"


def test_a_bare_state_dict_is_guided_diffusions_unless_said_otherwise(tmp_path):
    path = saved(tmp_path / "x.pt", {f"module.{name}": value for name, value in state().items()})
    known = {"shape": (3, 8, 8), "head_channels": 32}
    assert (read(path, known=known).format, read(path, known=known).target) == ("guided-diffusion", "noise")
    assert read(path, "torchcfm", known=known).target == "velocity"


class Payload:
    def __reduce__(self):
        return os.system, ("touch CODE_RAN",)


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_files_execute_nothing(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    torch.save({"net_model": Payload()}, "evil.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="not a readable file of weights") as caught:
        read("evil.pt")
    assert "\n" not in str(caught.value)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError, match=r"refers to posix.system"):
        read("evil.pkl")
    assert not (tmp_path / "CODE_RAN").exists()


def changed(name, value):
    return {"net_model": state() | {name: value}}


@pytest.mark.parametrize(
    ("content", "known", "message"),
    [
        ({"net_model": state()}, {}, r"does not tell the size of its images"),
        ({"a": torch.ones(1)}, KNOWN, "holds no U-Net with guided-diffusion's names"),
        ([1, 2], KNOWN, "holds no U-Net"),
        (changed("input_blocks.0.0.weight", torch.ones(32, 6, 3, 3)), KNOWN, "its input has 6 channels, not 3"),
        (changed("out.2.bias", torch.full((3,), torch.inf)), KNOWN, "out.2.bias is not finite"),
        (changed("out.2.bias", torch.ones(4)), KNOWN, r"out.2.bias is \[4\], not \[3\]"),
        (changed("more", torch.ones(4)), KNOWN, "the weight more, which the network lacks"),
        ({"net_model": {k: v for k, v in state().items() if k != "out.0.bias"}}, KNOWN, "lacks the weight out.0.bias"),
        ({"net_model": {"input_blocks.0.0.weight": torch.ones(1)}}, KNOWN, "lacks the weight time_embed.0.weight"),
        ({"net_model": state()}, {"shape": (3, 9, 9)}, "does not suit UNet: .*divisible by 2"),
        ({"net_model": state()}, KNOWN | {"head_channels": 32, "wings": 2}, "does not suit UNet: .*wings"),
    ],
)
def test_refusals(tmp_path, content, known, message):
    with pytest.raises(CheckpointError, match=message):
        read(saved(tmp_path / "x.pt", content), known=known)


def test_weights_are_the_made_up_ones():
    assert torch.equal(weights({"a": (2, 3)})["a"], weights({"a": (2, 3)})["a"])
    assert not torch.equal(weights({"a": (2, 3)})["a"], weights({"b": (2, 3)})["b"])
