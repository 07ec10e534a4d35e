"""Modules are built without a number being drawn, whichever of torch's functions would fill their parameters."""

import pytest
import torch
from torch import nn

from realuid.networks.no_init_weights import no_init_weights, no_weights

FILLING = {
    "uniform_": {},
    "normal_": {},
    "zeros_": {},
    "ones_": {},
    "constant_": {"val": 3.0},
    "xavier_uniform_": {},
    "kaiming_normal_": {},
}


@pytest.mark.parametrize("name", FILLING)
@pytest.mark.parametrize("named", [False, True])
def test_nothing_fills_a_parameter(name, named):
    parameter, tensor = nn.Parameter(torch.full((4, 4), 7.0)), torch.full((4, 4), 7.0)
    function = getattr(nn.init, name)
    with no_init_weights():
        given = function(tensor=parameter, **FILLING[name]) if named else function(parameter, **FILLING[name])
        function(tensor, **FILLING[name])
    assert given is parameter
    assert (parameter == 7).all()
    assert not (tensor == 7).all()


def test_networks_without_memory_draw_nothing():
    state = torch.get_rng_state()
    with no_weights():
        network = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2))
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)
