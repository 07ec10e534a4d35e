"""Where networks start: weights keyed by seed and role, and a teacher's weights with zeros for new input channels."""

import pytest
import torch
from torch import nn

from realuid.distillation.initialisation import initialise, start_from
from realuid.models.exact import GaussianMixture
from realuid.models.guidance import GuidedModel
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Velocity
from tests.training.stand_ins import matching_model


def unet(**changes):
    settings = {"shape": (1, 4, 4), "width": 8, "multipliers": (1, 2), "blocks": 1, "group_channels": 4, "classes": 3}
    return UNet(**(settings | changes))


def mlp(**changes):
    return MLP(**({"shape": (2,), "width": 8, "classes": 3} | changes))


def model(network, target=None):
    return matching_model(network, LinearInterpolant(), target or Velocity())


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("make", "name"), [(unet, "input_blocks.0.0.weight"), (mlp, "into.weight")])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_new_input_channels_start_at_zero_and_everything_else_as_the_teacher(make, name, extra):
    teacher, mine = make(), make(in_multiplier=1 + extra)
    initialise(teacher, 0, "teacher")
    before = weights(teacher)
    start_from(model(mine), model(teacher))
    found = weights(mine)
    channels = before[name].shape[1]
    assert found[name].shape[1] == channels * (1 + extra)
    assert torch.equal(found[name][:, :channels], before[name])
    assert not found[name][:, channels:].any()
    assert all(torch.equal(found[key], before[key]) for key in before if key != name)
    assert all(torch.equal(value, before[key]) for key, value in weights(teacher).items())


def test_a_student_starts_from_the_network_behind_guidance():
    teacher, mine = unet(null_label=True), unet(null_label=True)
    initialise(teacher, 0, "teacher")
    start_from(model(mine), GuidedModel(model=model(teacher), scale=2.0))
    assert all(torch.equal(value, weights(teacher)[key]) for key, value in weights(mine).items())


DIFFERENCES = {
    "output": ({}, {"out_multiplier": 2}),
    "width": ({}, {"width": 16, "head_channels": 8}),
    "fewer inputs": ({"in_multiplier": 2}, {"in_multiplier": 1}),
    "classes": ({}, {"classes": 5}),
    "null label": ({"null_label": True}, {}),
    "no classes": ({}, {"classes": 0}),
    "depth": ({}, {"blocks": 2}),
    "another depth": ({"blocks": 3}, {}),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_other_differences_are_refused(name):
    theirs, mine = DIFFERENCES[name]
    with pytest.raises(ValueError, match=r"cannot start from the teacher, whose network differs: \w") as refusal:
        start_from(model(unet(**mine)), model(unet(**theirs)))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300
    assert "weights that " in str(refusal.value) or "depth" not in name


def test_another_target_is_refused():
    with pytest.raises(ValueError, match=r"it predicts Data\(\), this model Velocity\(\)"):
        start_from(model(mlp()), model(mlp(), Data()))


def test_a_closed_form_has_no_weights():
    exact = GaussianMixture(interpolant=LinearInterpolant(), means=[[0.0, 0.0]], covariances=[torch.eye(2).tolist()])
    with pytest.raises(ValueError, match="an exact teacher has no weights to start from"):
        start_from(model(mlp()), exact)


def test_random_weights_depend_on_seed_and_role_alone():
    def drawn(seed, role, noise):
        torch.manual_seed(noise)
        network = nn.Sequential(mlp(), mlp())
        torch.manual_seed(noise + 1)
        before = torch.get_rng_state()
        initialise(network, seed, role)
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([value.flatten() for value in weights(network).values()])

    first = drawn(0, "fake", 1)
    assert torch.equal(drawn(0, "fake", 2), first)
    assert not torch.equal(drawn(1, "fake", 1), first)
    assert not torch.equal(drawn(0, "student", 1), first)
