"""EDM's and EDM2's snapshots: outputs as of NVIDIA's own classes, conventions, and hostile files."""

import io
import os
import pickle

import numpy as np
import pytest
import torch

from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.pretrained import edm, read
from realuid.utils.errors import CheckpointError
from tests.pretrained import edm_files
from tests.pretrained.made_up import fill, inputs, numbers, values

SMALL = {"img_resolution": 8, "in_channels": 3, "out_channels": 3, "label_dim": 3, "num_blocks": 1}
SONG = SMALL | {"model_channels": 32, "channel_mult": [1, 2], "attn_resolutions": [4], "augment_dim": 9}
NCSNPP = SONG | {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
ADM = SMALL | {"model_channels": 64, "channel_mult": [1, 2], "attn_resolutions": [4], "dropout": 0.1}
EDM2 = {
    "img_resolution": 8,
    "img_channels": 3,
    "label_dim": 3,
    "model_channels": 64,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
}
OURS = {"shape": (3, 8, 8), "classes": 3, "blocks": 1, "multipliers": (1, 2), "attention": (1,)}


def song(**changes):
    return fill(SongUNet(**OURS, width=32, **changes))


def adm(**changes):
    return fill(DhariwalUNet(**OURS, width=64, **changes))


NCSNPP_OURS = {"waves": "random", "residual_input": True, "time_width": 2, "taps": (1, 3, 3, 1)}


def theirs(state, side=8):
    """The names of EDM: what ours call out_norm and out_conv, filters and the augmentation that readers leave out."""
    named = {}
    for name, value in state.items():
        for last in ("norm", "conv"):
            name = name.replace(f"out_{last}.", f"dec.{side}x{side}_aux_{last}.")
        named[name] = value
    return named | {
        "map_augment.weight": torch.ones(32, 9),
        f"enc.{side // 2}x{side // 2}_down.conv0.resample_filter": torch.ones(1, 1, 2, 2),
    }


def snapshot(path, network, **changes):
    settings = {
        "wrapper": "EDMPrecond",
        "inner": ("model", "SongUNet"),
        "kwargs": SONG,
        "state": theirs(network.state_dict()) if isinstance(network, SongUNet) else network.state_dict(),
        "sigma_data": 0.5,
    }
    edm_files.write(path, **(settings | changes))
    return str(path)


# What NVlabs/edm (008a4e5) and NVlabs/edm2 (4bf8162) answer with these weights and inputs; the third has no class.
RECORDED = {
    "ddpm++": (song, 100, [-0.463964, 1.105115, -0.8381, -0.573286, -0.818502, -0.619899, 0.804744, -0.562446]),
    "ncsn++": (
        lambda: song(**NCSNPP_OURS),
        100,
        [-0.466779, 1.029516, -0.861053, -0.61756, -0.801174, -0.65357, 0.806084, -0.578666],
    ),
    "adm": (adm, 100, [-0.587968, 0.120171, -0.848771, 0.125418, -0.860984, -0.424465, -0.026356, -0.390428]),
    "edm2": (
        lambda: fill(EDM2UNet(**OURS, width=64)),
        1,
        [0.014789, 0.00527, 0.030685, -0.004787, 0.0277, 0.019989, -0.038525, 0.022882],
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_networks_answer_as_nvidias_do(name):
    build, scale, expected = RECORDED[name]
    x, times, condition = inputs((3, 8, 8), labels=(0, 1, 3))  # the third has no class
    assert numbers(build()(x, scale * times, condition)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("build", "inner", "kwargs"),
    [
        (song, ("model", "SongUNet"), SONG),
        (lambda: song(**NCSNPP_OURS), ("model", "SongUNet"), NCSNPP),
        (adm, ("model", "DhariwalUNet"), ADM),
        (lambda: fill(EDM2UNet(**OURS, width=64)), ("unet", "UNet"), EDM2),
    ],
)
def test_a_snapshot_becomes_the_network_it_holds(tmp_path, build, inner, kwargs):
    network = build()
    wrapper = "Precond" if inner[0] == "unet" else "EDMPrecond"
    path = snapshot(tmp_path / "net.pkl", network, wrapper=wrapper, inner=inner, kwargs=kwargs)
    foreign = read(path)
    assert foreign.network == type(network).__name__
    x, times, condition = inputs((3, 8, 8))
    assert torch.equal(foreign.build()(x, times, condition), network(x, times, condition))
    assert (foreign.classes, foreign.null, foreign.target, foreign.path.name) == (3, True, "data", "edm")
    assert (foreign.scaling.name, foreign.scaling.numbers) == ("pixels", {"low": -1.0, "high": 1.0})


@pytest.mark.parametrize(
    ("wrapper", "attributes", "name", "numbers"),
    [
        ("EDMPrecond", {"sigma_data": 0.6}, "edm", {"sigma_data": 0.6}),
        (
            "VPPrecond",
            {"beta_d": 19.9, "beta_min": 0.1, "M": 1000},
            "vp",
            {"beta_d": 19.9, "beta_min": 0.1, "steps": 1000},
        ),
        ("VEPrecond", {"sigma_min": 0.02}, "ve", {}),
        ("iDDPMPrecond", {"C_1": 0.001, "C_2": 0.008, "M": 1000}, "iddpm", {"c1": 0.001, "c2": 0.008, "steps": 1000}),
    ],
)
def test_preconditionings(tmp_path, wrapper, attributes, name, numbers):
    foreign = read(snapshot(tmp_path / "net.pkl", song(), wrapper=wrapper, **attributes))
    assert (foreign.preconditioning.name, foreign.preconditioning.numbers) == (name, numbers)


def test_the_variance_that_iddpm_learns_is_cut_off(tmp_path):
    state = theirs(song().state_dict())
    for name in ("dec.8x8_aux_conv.weight", "dec.8x8_aux_conv.bias"):
        state[name] = torch.cat([state[name], torch.full_like(state[name], 7.0)])
    path = snapshot(tmp_path / "net.pkl", song(), wrapper="iDDPMPrecond", state=state, C_1=0.001, C_2=0.008, M=1000)
    x, times, condition = inputs((3, 8, 8))
    assert torch.equal(read(path).build()(x, times, condition), song()(x, times, condition))


def test_half_precision_becomes_float32(tmp_path):
    state = {name: value.half() for name, value in theirs(song().state_dict()).items()}
    foreign = read(snapshot(tmp_path / "net.pkl", song(), state=state))
    assert {value.dtype for value in foreign.state.values()} == {torch.float32}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_latents_are_told(tmp_path, protocol):
    numbers = {"scale": np.float32([0.25, 0.5]), "bias": np.float32([1.0, -2.0]), "more": np.float64(3)}
    encoder = edm_files.Persistent("StabilityVAEEncoder", **numbers, vae_name="some/vae")
    foreign = read(snapshot(tmp_path / "net.pkl", song(), extra={"encoder": encoder}, protocol=protocol))
    scaling = foreign.scaling
    assert torch.equal(foreign.state["map_layer1.bias"], song().state_dict()["map_layer1.bias"])
    assert scaling.name == "latents"
    assert scaling.numbers == {"factor": [0.25, 0.5], "shift": [-4.0, 4.0], "autoencoder": "some/vae"}


def test_the_code_in_the_file_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read(snapshot(tmp_path / "net.pkl", song()))
    assert b"CODE_RAN" in (tmp_path / "net.pkl").read_bytes()
    assert not (tmp_path / "CODE_RAN").exists()


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _nested():
    """A tensor storage whose own pickle calls a function."""
    buffer = io.BytesIO()
    torch.save(Payload(os.system, "touch CODE_RAN"), buffer)
    return Payload(torch.storage._load_from_bytes, buffer.getvalue())


HOSTILE = {
    "a function of the system": lambda: Payload(os.system, "touch CODE_RAN"),
    "eval": lambda: Payload(eval, "open('CODE_RAN', 'w')"),
    "getattr": lambda: Payload(getattr, "x", "join"),
    "torch.load inside": _nested,
    "torch.load itself": lambda: Payload(torch.load, "CODE_RAN"),
    "a codec": lambda: Payload(__import__("_codecs").encode, "x", "zip"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for protocol in (2, 4):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"ema": HOSTILE[name]()}, protocol=protocol))
        with pytest.raises(CheckpointError, match="not a readable pickle of weights") as caught:
            read(str(tmp_path / "evil.pkl"), "edm")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "CODE_RAN").exists()


def test_a_pickle_cannot_change_the_functions_it_may_call(tmp_path):
    # The opcodes of setattr(torch._utils._rebuild_tensor_v2, "__defaults__", 1)
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__K\x01s\x86b."
    (tmp_path / "evil.pkl").write_bytes(program)
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(CheckpointError, match="gives a state to something that has none"):
        read(str(tmp_path / "evil.pkl"), "edm")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_classes_of_other_modules_are_not_even_imported(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x02cantigravity\nfly\n.")
    with pytest.raises(CheckpointError, match=r"refers to antigravity.fly"):
        read(str(tmp_path / "evil.pkl"))


def _without(name):
    state = theirs(song().state_dict())
    del state[name]
    return state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wrapper": "Strange"}, "no network of EDM or EDM2"),
        ({"inner": ("model", "Strange")}, "its network is Strange"),
        ({"kwargs": SONG | {"encoder_type": "skip"}}, "no encoder_type = 'skip'"),
        ({"kwargs": SONG | {"decoder_type": "skip"}}, "no decoder_type = 'skip'"),
        ({"kwargs": SONG | {"surprise": 1}}, "no surprise = 1"),
        ({"kwargs": SONG | {"num_blocks": 2}}, "lacks the weight enc.8x8_block1"),
        ({"kwargs": SONG | {"model_channels": 64}}, r"enc.8x8_conv.weight is \[32, 3, 3, 3\], not \[64, 3, 3, 3\]"),
        ({"kwargs": SONG | {"img_resolution": 9}}, "does not suit SongUNet"),
        ({"kwargs": {}}, "no snapshot of EDM"),
        ({"state": _without("map_layer1.bias")}, "lacks the weight map_layer1.bias"),
        ({"state": theirs(song().state_dict()) | {"more": torch.ones(1)}}, "the weight more, which the network lacks"),
        (
            {"state": theirs(song().state_dict()) | {"map_layer1.bias": torch.full((128,), torch.nan)}},
            "map_layer1.bias is not finite",
        ),
    ],
)
def test_refusals(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        read(snapshot(tmp_path / "net.pkl", song(), **changes), "edm")


def test_damaged_files(tmp_path):
    whole = (snapshot(tmp_path / "net.pkl", song()), (tmp_path / "net.pkl").read_bytes())[1]
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(CheckpointError):
            edm.read(io.BytesIO(whole[:cut]), "cut.pkl")


def test_initial_weights_are_drawn_by_reset_parameters():
    """Two networks of one seed agree, also in the random frequencies, and answer almost nothing (zero: ADM, EDM2)."""
    for build in (lambda: DhariwalUNet(**OURS, width=64), lambda: EDM2UNet(**OURS, width=64)):
        x, times, condition = inputs((3, 8, 8))
        assert not build()(x, times, condition).any()
    x, times, condition = inputs((3, 8, 8))
    network = SongUNet(**OURS, width=32, waves="random")
    assert network(x, times, condition).abs().max() < 1e-3
    frequencies = network.map_noise.freqs.clone()
    network.map_noise.reset_parameters()
    assert not torch.equal(network.map_noise.freqs, frequencies)


def test_gradients_reach_every_weight():
    for build in (song, lambda: song(**NCSNPP_OURS), adm, lambda: fill(EDM2UNet(**OURS, width=64))):
        network, (x, times, condition) = build(), inputs((3, 8, 8))
        network(x.requires_grad_(), times, condition).square().sum().backward()
        assert x.grad.any()
        assert all(bool(weight.grad.any()) for weight in network.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DhariwalUNet(shape=(3, 8, 9), multipliers=(1, 1)), "divisible by 2"),
        (lambda: SongUNet(shape=(3, 6, 6), multipliers=(1, 1, 1)), "divisible by 4"),
        (lambda: EDM2UNet(shape=(3, 8, 8), attention=(4,)), "must lie in 0..3"),
        (lambda: DhariwalUNet(shape=(3, 8, 8), width=66, attention=()), "groups of at least four"),
        (lambda: DhariwalUNet(shape=(3, 8, 8), width=96, multipliers=(1,), attention=(0,), head_channels=19), "heads"),
    ],
)
def test_constructors_refuse(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_edm2_cuts_features_that_grow():
    block = fill(EDM2UNet(**OURS, width=64)).dec["8x8_up"]
    answer = block(1e5 * values("x", (1, 128, 4, 4), 1.0), values("e", (1, 128), 1.0))
    assert answer.abs().max() == 256


def test_dropout_and_multipliers():
    network = fill(SongUNet(**OURS, width=32, dropout=0.5, out_multiplier=2))
    x, times, condition = inputs((3, 8, 8))
    assert network(x, times, condition).shape == (3, 6, 8, 8)
    for build in (SongUNet, DhariwalUNet, EDM2UNet):
        wide = fill(build(**OURS, width=64, in_multiplier=2))
        beside = torch.cat([x, values("beside", x.shape, 1.0)], dim=1)
        assert wide(beside, times, condition).shape == (3, 3, 8, 8)
        assert not torch.allclose(wide(beside, times, condition), wide(torch.cat([x, x], dim=1), times, condition))
    assert not torch.equal(network.train()(x, times, condition), network.eval()(x, times, condition))
    assert torch.equal(values("x", (3, 3, 8, 8), 1.0), x)
