"""Another project's checkpoint as a teacher: its weights, and conventions that the gin file must bind."""

import hashlib
from types import SimpleNamespace

import pytest
import torch

from realuid import checkpoints
from realuid.distillation.teachers import Teacher
from realuid.models.guidance import GuidedModel
from realuid.models.matching import MatchingModel
from realuid.models.reexpression import ReexpressedModel
from realuid.networks.dit import DiT
from realuid.networks.edm_unet import SongUNet
from realuid.networks.unet import UNet
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.paths.interpolants import (
    CosineInterpolant,
    DDPMInterpolant,
    EDMInterpolant,
    ExpressionInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
    LipmanInterpolant,
    VPInterpolant,
)
from realuid.paths.preconditioning import (
    EDMPreconditioning,
    I2SBPreconditioning,
    IDDPMPreconditioning,
    NoPreconditioning,
    UnitVariancePreconditioning,
    VEPreconditioning,
    VPPreconditioning,
)
from realuid.paths.targets import Data, ExpressionTarget, Noise, Velocity
from realuid.pretrained import components, read
from realuid.pretrained.conventions import Convention
from realuid.pretrained.loading import load_weights
from realuid.pretrained.scaling import check_scaling
from realuid.samplers import Heun, KarrasGrid
from realuid.utils.errors import CheckpointError
from tests.pretrained.made_up import fill, inputs
from tests.pretrained.test_dit import SMALL as DIT
from tests.pretrained.test_dit import saved
from tests.pretrained.test_dit import state as dit_state
from tests.pretrained.test_edm import OURS, snapshot, song

TINY = {"shape": (3, 8, 8), "width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (), "head_channels": 32}


def edm(network=None, **changes):
    parts = {
        "network": network or SongUNet(**OURS, width=32),
        "interpolant": EDMInterpolant(),
        "coupling": IndependentCoupling(),
        "target": Data(),
        "preconditioning": EDMPreconditioning(),
    }
    return MatchingModel(**(parts | changes))


def flow(network, **changes):
    return edm(
        network,
        **(
            {"interpolant": LinearInterpolant(), "target": Velocity(), "preconditioning": NoPreconditioning()} | changes
        ),
    )


def test_an_edm_teacher_is_the_network_in_the_file(tmp_path):
    path = snapshot(tmp_path / "net.pkl", song())
    model = edm()
    teacher = Teacher(model=model, sampler=Heun(steps=3, grid=KarrasGrid()), checkpoint=path)
    teacher.load()
    x, _, condition = inputs((3, 8, 8))
    sigma = torch.tensor([0.3, 2.0, 40.0], dtype=torch.float64)
    scale = (sigma**2 + 0.25).rsqrt().float().view(-1, 1, 1, 1)
    raw = song()(x * scale, (sigma.log() / 4).float(), condition)
    s = sigma.float().view(-1, 1, 1, 1)
    expected = 0.25 * scale**2 * x + 0.5 * s * scale * raw
    assert torch.allclose(model(x, sigma, condition), expected, atol=1e-5)
    assert (teacher.ema, teacher.foreign.format, len(teacher.foreign.state)) == ("ema", "edm", 0)
    assert not any(p.requires_grad for p in model.parameters())


def test_it_may_sit_behind_another_path(tmp_path):
    path = snapshot(tmp_path / "net.pkl", song())
    load_weights(ReexpressedModel(model=edm(), interpolant=LinearInterpolant()), path)
    load_weights(GuidedModel(model=edm(), scale=2.0), path)


WRONG = {
    "path": (
        {"interpolant": VPInterpolant(), "preconditioning": VPPreconditioning()},
        r"predicts data on edm\(.*MatchingModel.interpolant = @VPInterp.*: bind @EDMInterpolant\(\) with sigma_max",
    ),
    "target": (
        {"target": Velocity(), "preconditioning": NoPreconditioning()},
        r"predicts data .*MatchingModel.target = @Velocity\(\): bind @Data\(\)",
    ),
    "sigma_data": (
        {"preconditioning": EDMPreconditioning(sigma_data=0.6)},
        r"stands in the preconditioning edm\(sigma_data=0.5\).*MatchingModel.preconditioning = @EDMPrecondit.*: bind "
        r"@EDMPreconditioning\(\) with sigma_data = 0.5",
    ),
    "no preconditioning": ({"preconditioning": NoPreconditioning()}, r"bind @EDMPreconditioning\(\)"),
    "time": ({"preconditioning": UnitVariancePreconditioning()}, r"bind @EDMPreconditioning\(\)"),
    "coupling": ({"coupling": IndependentCoupling(source="data")}, r"starts from noise.*bind @IndependentCoupling\(\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_conventions_that_are_not_bound_are_refused_with_the_right_component(tmp_path, name):
    changes, message = WRONG[name]
    path = snapshot(tmp_path / "net.pkl", song())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(edm(**changes), path)
    assert "\n" not in str(caught.value)


def test_what_computes_the_same_will_do(tmp_path):
    path = snapshot(tmp_path / "net.pkl", song())
    load_weights(edm(interpolant=EDMInterpolant(sigma_max=30.0)), path)
    load_weights(edm(target=ExpressionTarget(x1="1"), preconditioning=UnitVarianceTold()), path)
    with pytest.raises(CheckpointError, match="predicts data"):
        load_weights(edm(target=ExpressionTarget(x1="2"), preconditioning=UnitVarianceTold()), path)


class UnitVarianceTold(UnitVariancePreconditioning):
    """EDM's scalings by another class, for any target."""

    def noise(self, k):
        return k.t.log() / 4


@pytest.mark.parametrize(
    ("wrapper", "attributes", "scalings"),
    [
        ("VPPrecond", {"beta_d": 19.9, "beta_min": 0.1, "M": 1000}, VPPreconditioning()),
        ("VEPrecond", {}, VEPreconditioning()),
        ("iDDPMPrecond", {"C_1": 0.001, "C_2": 0.008, "M": 1000}, IDDPMPreconditioning()),
    ],
)
def test_all_of_edms_preconditionings_have_a_component(tmp_path, wrapper, attributes, scalings):
    path = snapshot(tmp_path / "net.pkl", song(), wrapper=wrapper, **attributes)
    load_weights(edm(preconditioning=scalings), path)
    with pytest.raises(CheckpointError, match=f"bind @{type(scalings).__name__}"):
        load_weights(edm(), path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = snapshot(tmp_path / "net.pkl", song())
    with pytest.raises(CheckpointError, match=r"holds a SongUNet, the gin file binds MatchingModel.network = @UNet"):
        load_weights(edm(UNet(**TINY)), path)
    wide = {**OURS, "width": 64}
    with pytest.raises(CheckpointError, match=r"is \[.*\], the network that the gin file binds has \["):
        load_weights(edm(SongUNet(**wide)), path)
    shallow = {**OURS, "attention": ()}
    with pytest.raises(CheckpointError, match=r"has the weight .*, which the network that the gin file binds lacks"):
        load_weights(edm(SongUNet(**shallow, width=32)), path)
    deep = {**OURS, "blocks": 2}
    with pytest.raises(CheckpointError, match=r"lacks the weight|has the weight|is \["):
        load_weights(edm(SongUNet(**deep, width=32)), path)


def test_what_no_weight_tells_is_compared_too(tmp_path):
    """The number of heads changes no shape."""
    path = saved(tmp_path / "x.pt", dit_state())
    load_weights(flow(DiT(**DIT)), path, format="sit")  # heads are the bound network's: the file does not tell them
    with pytest.raises(CheckpointError, match=r"its DiT has heads = 4.*the one that the gin file binds 2"):
        load_weights(flow(DiT(**(DIT | {"heads": 2}))), path, format="sit", known={"heads": 4})


def test_a_checksum_is_kept_to(tmp_path):
    path = snapshot(tmp_path / "net.pkl", song())
    digest = hashlib.sha256((tmp_path / "net.pkl").read_bytes()).hexdigest()
    load_weights(edm(), path, sha256=digest)
    with pytest.raises(CheckpointError, match="has the sha256"):
        load_weights(edm(), path, sha256="0" * 64)
    torch.save(SongUNet(**OURS, width=32).state_dict(), tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match="has the sha256"):
        load_weights(edm(), str(tmp_path / "plain.pt"), sha256="0" * 64)


def test_ours_load_as_before(tmp_path):
    network = song()
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    model = edm()
    assert load_weights(model, str(tmp_path / "plain.pt")) == (None, None)
    assert torch.equal(model.network.state_dict()["map_layer0.bias"], network.state_dict()["map_layer0.bias"])
    own = {"ema": {"weights": {"0.99": {f"model.network.{k}": v for k, v in network.state_dict().items()}}}}
    checkpoints.save(str(tmp_path / "own.pt"), own)
    assert load_weights(edm(), str(tmp_path / "own.pt")) == ("0.99", None)


def test_ddpm_and_sit_look_alike_and_are_told_apart_by_format(tmp_path):
    path = saved(tmp_path / "x.pt", dit_state())
    ddpm = flow(DiT(**DIT), interpolant=DDPMInterpolant(), target=Noise())
    load_weights(ddpm, path, format="dit")
    with pytest.raises(
        CheckpointError, match=r"predicts noise on ddpm\(.*'linear'.*interpolant = @LinearInterpolant\(\)"
    ):
        load_weights(flow(DiT(**DIT)), path, format="dit")
    squared = flow(DiT(**DIT), interpolant=DDPMInterpolant(betas="squaredcos_cap_v2"), target=Noise())
    with pytest.raises(CheckpointError, match=r"bind @DDPMInterpolant\(\) with .*betas = 'linear'"):
        load_weights(squared, path, format="dit")
    with pytest.raises(CheckpointError, match="has the weight pos_embed"):  # a bare file counts as plain weights
        load_weights(flow(DiT(**DIT)), path)


def test_guidance_needs_a_network_with_a_null_condition(tmp_path):
    path = saved(tmp_path / "x.pt", dit_state())
    load_weights(GuidedModel(model=flow(DiT(**DIT)), scale=1.5), path, format="sit")
    network = fill(UNet(**TINY, classes=3))
    torch.save({"net_model": network.state_dict(), "ema_model": network.state_dict()}, tmp_path / "cfm.pt")
    load_weights(flow(UNet(**TINY, classes=3)), str(tmp_path / "cfm.pt"))
    guided = GuidedModel(model=flow(UNet(**TINY, classes=3, null_label=True)), scale=2.0)
    with pytest.raises(CheckpointError, match=r"is \[3, 128\], the network that the gin file binds has \[4, 128\]"):
        load_weights(guided, str(tmp_path / "cfm.pt"))


def test_scaling_of_the_data(tmp_path):
    pixels = read(snapshot(tmp_path / "net.pkl", song()))
    latents = read(saved(tmp_path / "x.pt", dit_state()), "sit", known={"heads": 4})
    check_scaling(pixels, data(None, 3), "a")
    check_scaling(latents, data(((0.0,), (5.48998,)), 4), "b")
    with pytest.raises(CheckpointError, match=r"is a model of pixels, Trainer.data gives latents"):
        check_scaling(pixels, data(((0.0,), (1.0,)), 3), "a")
    with pytest.raises(CheckpointError, match=r"Trainer.data gives pixels: bind .* deviation = \(5.48998,\)"):
        check_scaling(latents, data(None, 4), "b")
    with pytest.raises(CheckpointError, match="gives latents of deviation"):
        check_scaling(latents, data(((0.0,), (5.0,)), 4), "b")


def data(scaling, channels):
    return SimpleNamespace(latent_scaling=scaling, shape=(channels, 8, 8), has_images=True)


PATHS = [
    (Convention("linear", {"t_source": 0.0, "t_data": 1.0}), LinearInterpolant()),
    (
        Convention("linear", {"t_source": 1.0, "t_data": 0.0}),
        ExpressionInterpolant(a="t", b="1 - t", t_source=1, t_data=0),
    ),
    (Convention("edm", {"sigma_min": 0.002, "sigma_max": 80.0}), EDMInterpolant()),
    (Convention("ddpm", {"steps": 1000, "betas": "squaredcos_cap_v2"}), DDPMInterpolant(betas="squaredcos_cap_v2")),
    (Convention("gvp"), CosineInterpolant()),
    (Convention("i2sb", {"steps": 1000, "beta_max": 0.3, "t0": 1e-4, "t1": 1.0}), I2SBInterpolant(steps=1000)),
]


@pytest.mark.parametrize(("convention", "expected"), PATHS, ids=lambda x: getattr(x, "name", ""))
def test_paths(convention, expected):
    built = components.path(convention).build()
    t = expected.time(torch.linspace(0.05, 0.95, 7, dtype=torch.float64))
    k, j = built.at(t), expected.at(t)
    assert torch.allclose(torch.stack([k.a, k.b, k.g_squared]), torch.stack([j.a, j.b, j.g_squared]))
    assert (built.t_source, built.t_data) == (expected.t_source, expected.t_data)


def test_sits_variance_preserving_path():
    """Song et al.'s with time reversed (Ma et al. 2401.08740)."""
    built = components.path(Convention("vp", {"beta_min": 0.1, "beta_max": 20.0})).build()
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    theirs = VPInterpolant().at(1 - t)
    k = built.at(t)
    assert torch.allclose(k.a, theirs.a)
    assert torch.allclose(k.b, theirs.b)


def test_what_we_have_no_component_for_is_refused():
    with pytest.raises(CheckpointError, match="no interpolant of ours is the path warped"):
        components.path(Convention("warped"))
    with pytest.raises(CheckpointError, match="no preconditioning of ours is vp"):
        components.preconditioning(Convention("vp", {"beta_d": 19.9, "beta_min": 0.1, "steps": 500}), "data")
    with pytest.raises(CheckpointError, match="no component of ours"):
        components.path(Convention("ddpm", {"steps": 10, "betas": "other"})).build()


@pytest.mark.parametrize("source_conditioned", [False, True])
def test_i2sb_with_and_without_the_degraded_image_beside(tmp_path, source_conditioned):
    network = fill(UNet(**TINY, in_multiplier=1 + source_conditioned))
    path = saved(tmp_path / "latest.pt", {"net": network.state_dict(), "ema": {"shadow_params": []}})
    changes = {
        "interpolant": I2SBInterpolant(steps=1000),
        "coupling": PairedCoupling(),
        "target": Data(),
        "preconditioning": I2SBPreconditioning(),
    }
    model = flow(UNet(**TINY, in_multiplier=1 + source_conditioned), **changes, source_conditioned=source_conditioned)
    load_weights(model, path, format="i2sb")
    x, _, condition = inputs((3, 8, 8))
    x0 = x.flip(0)
    rising = torch.linspace(1e-4**0.5, (0.3 / 1000) ** 0.5, 1000, dtype=torch.float64)[:500] ** 2
    forward = torch.cat([rising, rising.flip(0)]).cumsum(0)
    step = torch.tensor([3, 500, 990])
    levels = torch.linspace(1e-4, 1, 1000, dtype=torch.float64)
    shown = torch.cat([x, x0], dim=1) if source_conditioned else x
    std = forward[step].sqrt().float().view(-1, 1, 1, 1)
    expected = x - std * network(shown, (1000 * levels[step]).float(), condition)  # their compute_pred_x0
    assert torch.allclose(model(x, levels[step], condition, x0), expected, atol=1e-5)
    other = flow(
        UNet(**TINY, in_multiplier=2 - source_conditioned), **changes, source_conditioned=not source_conditioned
    )
    with pytest.raises(CheckpointError, match=r"input_blocks.0.0.weight is"):
        load_weights(other, path, format="i2sb")
    with pytest.raises(
        CheckpointError, match=r"predicts i2sb on i2sb.*bind @I2SBInterpolant\(\) with beta_max = 0.3, steps = 1000"
    ):
        load_weights(
            flow(
                UNet(**TINY, in_multiplier=1 + source_conditioned), **(changes | {"interpolant": LipmanInterpolant()})
            ),
            path,
            format="i2sb",
        )
