"""What every network states of itself: its null condition, its multipliers, and what it leaves unsaid."""

import pytest
import torch
from torch import nn

from realuid.conditions import LABEL, Condition, Field, class_label, labelled
from realuid.networks.adapter import TorchModule
from realuid.networks.base import Network
from realuid.networks.dit import DiT
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet

SHAPE = (2, 8, 8)
SMALL = {"shape": SHAPE, "width": 32, "multipliers": (1,), "blocks": 1, "attention": ()}
MAKE = {
    "UNet": lambda **more: UNet(**SMALL, conditioning="scale_shift", **more),
    "DiT": lambda **more: DiT(shape=SHAPE, width=32, depth=1, heads=2, **more),
    "SongUNet": lambda **more: SongUNet(**SMALL, **more),
    "DhariwalUNet": lambda **more: DhariwalUNet(**SMALL, **more),
    "EDM2UNet": lambda **more: EDM2UNet(**SMALL, **more),
    "MLP": lambda **more: MLP(shape=SHAPE, width=32, depth=1, **more),
    "TorchModule": lambda **more: TorchModule(factory="torch.nn:Identity", **more),
}
# Networks with classes that have a label for none, and what they need for it.
WITH_NULL = {
    "UNet": {"null_label": True},
    "DiT": {},
    "SongUNet": {},
    "DhariwalUNet": {},
    "EDM2UNet": {},
}


class Told(Network):
    """Reads labels, embeddings and a mask."""

    conditions = (*class_label(5), Field("text", (3, 2)), Field("mask", (3,), "bool"))
    has_null = True

    def forward(self, x, time, condition):
        return x


def told():
    return Condition(
        {
            "other": torch.ones(2, 4),
            "label": torch.tensor([3, 0]),
            "text": torch.randn(2, 3, 2, dtype=torch.float64),
            "mask": torch.tensor([[True, True, False], [True, False, False]]),
        }
    )


def test_the_null_of_labels_is_the_number_of_classes_and_of_tensors_zero():
    condition = told()
    null = Told().null(condition)
    assert list(null) == list(condition)
    assert null["label"].tolist() == [5, 5]
    assert null["label"].dtype == torch.int64
    assert (null["text"].dtype, null["text"].shape, bool(null["text"].any())) == (torch.float64, (2, 3, 2), False)
    assert (null["mask"].dtype, null["mask"].shape, bool(null["mask"].any())) == (torch.bool, (2, 3), False)
    assert condition["label"].tolist() == [3, 0], "the condition itself is left as it is"


def test_fields_that_it_does_not_read_stay_as_they_are():
    """Also labels: a network of texts has none of its own to replace them."""
    condition = told()
    assert Told().null(condition)["other"] is condition["other"]

    class OfTexts(Told):
        conditions = (Field("text", (3, 2)),)

    null = OfTexts().null(condition)
    assert null["label"] is condition["label"]
    assert null["mask"] is condition["mask"]
    assert not null["text"].any()


@pytest.mark.parametrize("name", MAKE)
def test_which_networks_have_a_null_condition(name):
    """Of those with classes: labels one more than there are classes, or an embedding that is not one-hot."""
    network = MAKE[name](classes=3, **WITH_NULL.get(name, {}))
    assert network.conditions == class_label(3)
    assert network.has_null is (name in WITH_NULL)
    condition = labelled(torch.tensor([2, 0, 1]))
    if network.has_null:
        assert network.null(condition)[LABEL].tolist() == [3, 3, 3]
    else:
        with pytest.raises(ValueError, match=f"{name} has no null condition"):
            network.null(condition)
    unconditional = MAKE[name](**WITH_NULL.get(name, {}))
    assert unconditional.conditions == ()
    assert not unconditional.has_null


def test_a_unet_has_a_null_label_only_if_it_is_asked_for_one():
    assert not UNet(**SMALL, classes=3).has_null
    assert UNet(**SMALL, classes=3, null_label=True).has_null


@pytest.mark.parametrize("name", WITH_NULL)
def test_the_null_condition_is_one_that_the_network_takes(name):
    """And it tells it something else than every label does; weights are random, for many start at zero."""
    torch.manual_seed(0)
    network = MAKE[name](classes=3, **WITH_NULL[name]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    x, time = torch.randn(3, *SHAPE), torch.full((3,), 0.3)
    condition = labelled(torch.tensor([0, 1, 2]))
    null = network(x, time, network.null(condition))
    assert null.isfinite().all()
    assert not any(torch.allclose(null[i], network(x, time, condition)[i]) for i in range(3))


@pytest.mark.parametrize("name", [name for name in MAKE if name != "TorchModule"])
def test_a_network_states_shape_and_multipliers(name):
    network = MAKE[name](in_multiplier=2, out_multiplier=3)
    assert (network.shape, network.in_multiplier, network.out_multiplier) == (SHAPE, 2, 3)
    answer = network(torch.randn(2, 4, 8, 8), torch.rand(2), Condition())
    assert answer.shape == (2, 6, 8, 8)


@pytest.mark.parametrize("name", MAKE)
def test_middle_features_are_a_unets_alone(name):
    network = MAKE[name]()
    x, time = torch.randn(2, *SHAPE), torch.rand(2)
    if name == "UNet":
        assert network.encode(x, time, Condition()).shape == (2, network.middle_channels, 8, 8)
        return
    assert network.middle_channels is None
    with pytest.raises(NotImplementedError, match=f"{name} has no middle features"):
        network.encode(x, time, Condition())


def test_what_is_not_stated_is_none():
    class Plain(Network):
        def forward(self, x, time, condition):
            return x

    plain = Plain()
    assert isinstance(plain, nn.Module)
    assert (plain.shape, plain.in_multiplier, plain.out_multiplier, plain.middle_channels) == (None,) * 4
    assert (plain.conditions, plain.has_null) == ((), False)
    with pytest.raises(ValueError, match="Plain has no null condition"):
        plain.null(Condition())
    with pytest.raises(TypeError, match="abstract"):
        Network()
