"""Files of DiT and SiT."""

import argparse

import numpy as np
import pytest
import torch

from realuid.conditions import Condition
from realuid.networks.dit import DiT, positions
from realuid.pretrained import read
from realuid.utils.errors import CheckpointError
from tests.pretrained.made_up import fill, inputs, numbers

SMALL = {"shape": (4, 8, 8), "width": 48, "depth": 2, "heads": 4, "classes": 3}
KNOWN = {"heads": 4}


def state(**changes):
    """Weights as in a file: with the fixed positions."""
    network = fill(DiT(**(SMALL | changes)))
    rows = network.rows
    return dict(network.state_dict()) | {"pos_embed": positions(rows, rows, 48)[None]}


def saved(path, content):
    torch.save(content, path)
    return str(path)


def test_the_network_answers_as_sits():
    """What willisma/SiT (947f95b) answers with these weights and inputs; the third image has no class."""
    x, times, condition = inputs((4, 8, 8), labels=(0, 1, 3))
    expected = [0.863945, 0.660046, 1.892115, 0.743041, 0.702824, 0.19389, 1.30571, -1.008123]
    assert numbers(fill(DiT(**SMALL))(x, 100 * times, condition)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("args", "path", "target"),
    [
        ({}, "linear", "velocity"),
        ({"path_type": "GVP", "prediction": "score"}, "gvp", "score"),
        ({"path_type": "VP", "prediction": "noise"}, "vp", "noise"),
    ],
)
def test_files_of_sits_training(tmp_path, args, path, target):
    options = argparse.Namespace(**({"path_type": "Linear", "prediction": "velocity"} | args))
    content = {"model": state(), "ema": state(), "opt": {"state": {}, "param_groups": []}, "args": options}
    foreign = read(saved(tmp_path / "x.pt", content), known=KNOWN)
    assert (foreign.format, foreign.weights, foreign.path.name, foreign.target) == ("sit", "ema", path, target)
    assert (foreign.scaling.name, foreign.scaling.numbers["factor"]) == ("latents", 0.18215)
    assert (foreign.classes, foreign.null) == (3, True)
    x, times, condition = inputs((4, 8, 8))
    assert torch.equal(foreign.build()(x, times, condition), fill(DiT(**SMALL))(x, times, condition))
    assert read(saved(tmp_path / "x.pt", content), known=KNOWN, weights="model").weights == "model"


def test_published_files_are_bare_and_learn_a_variance(tmp_path):
    """The last layer lies patch pixel by patch pixel, target and then variance in each."""
    content = state()
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        target = content[name].view(4, 4, -1)  # pixels, channels
        content[name] = torch.cat([target, torch.full_like(target, 9.0)], dim=1).flatten(0, 1)
        if name.endswith("bias"):
            content[name] = content[name].flatten()
    path = saved(tmp_path / "x.pt", content)
    with pytest.raises(CheckpointError, match="give format='dit' or format='sit'"):
        read(path, known=KNOWN)
    foreign = read(path, "dit", known=KNOWN)
    assert (foreign.path.name, foreign.target, foreign.path.numbers["steps"]) == ("ddpm", "noise", 1000)
    x, times, condition = inputs((4, 8, 8))
    assert torch.equal(foreign.build()(x, times, condition), fill(DiT(**SMALL))(x, times, condition))


def test_positions_are_sines_and_cosines_of_column_and_row():
    grid = positions(3, 5, 8).double().numpy()
    frequencies = np.array([1.0, 0.01])
    for place, row in enumerate(grid):
        down, across = divmod(place, 5)
        expected = [f(at * frequencies) for at in (across, down) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=1e-6)


def test_a_new_network_answers_zero_and_every_weight_learns():
    x, times, condition = inputs((4, 8, 8))
    assert not DiT(**SMALL)(x, times, condition).any()
    network = fill(DiT(**SMALL, out_multiplier=2))
    answer = network(x.requires_grad_(), times, condition)
    assert answer.shape == (3, 8, 8, 8)
    answer.square().sum().backward()
    assert x.grad.any()
    assert all(bool(weight.grad.any()) for weight in network.parameters())
    assert fill(DiT(**SMALL, in_multiplier=2))(torch.cat([x, x], dim=1), times, condition).shape == (3, 4, 8, 8)
    unconditional = DiT(**(SMALL | {"classes": 0, "shape": (4, 4, 8)}))
    assert unconditional(torch.ones(1, 4, 4, 8), times[:1], Condition()).shape == (1, 4, 4, 8)


@pytest.mark.parametrize(
    ("content", "known", "message"),
    [
        (lambda: state(), {}, r"width 48 is no published size"),
        (lambda: state() | {"pos_embed": torch.ones(1, 16, 48)}, KNOWN, "not the fixed sines and cosines"),
        (lambda: state() | {"x_embedder.proj.bias": torch.full((48,), torch.nan)}, KNOWN, "is not finite"),
        (lambda: {"ema": {"a": torch.ones(1)}}, KNOWN, "holds no sit under 'ema'"),
        (lambda: state(), {"heads": 5}, "does not suit DiT: width = 48 must be divisible"),
    ],
)
def test_refusals(tmp_path, content, known, message):
    with pytest.raises(CheckpointError, match=message):
        read(saved(tmp_path / "x.pt", content()), "sit", known=known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (4, 7, 8)}, "divisible by the patch"),
        ({"width": 50}, "divisible by four"),
        ({"heads": 5}, "heads = 5"),
    ],
)
def test_constructor_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        DiT(**(SMALL | changes))
