"""Averages against the closed form of a geometric series, and against torch's own implementation."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from realuid.training.ema import EMA


def test_a_constant_weight_is_reached_geometrically():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = EMA(decays=(0.5, 0.9))
    ema.attach(module)
    ema.updates = 10_000  # past the warm-up
    with torch.no_grad():
        module.weight.fill_(1.0)
    for _ in range(7):
        ema.update()
    assert float(ema.averaged("0.5").weight) == pytest.approx(1 - 0.5**7)
    assert float(ema.averaged("0.9").weight) == pytest.approx(1 - 0.9**7)


def test_it_equals_torchs_average_after_the_warm_up():
    torch.manual_seed(0)
    module = nn.Linear(3, 3)
    reference = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ema = EMA(decays=(0.9,))
    ema.attach(module)
    ema.updates = 10_000
    reference.update_parameters(module)  # torch's first update copies
    for _ in range(5):
        with torch.no_grad():
            module.weight.add_(torch.randn(3, 3))
        ema.update()
        reference.update_parameters(module)
    assert torch.allclose(ema.averaged().weight, reference.module.weight)


def test_the_initial_weights_have_no_part():
    """After n updates the average is the mean of the weights since then with factors d^(n - i), summed up here."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1e6)
    decays = (0.5, 0.9999)
    ema, seen = EMA(decays=decays), []
    ema.attach(module)
    for n in range(1, 21):
        seen.append(n**1.5)
        with torch.no_grad():
            module.weight.fill_(seen[-1])
        ema.update()
        for decay in decays:
            factors = [decay ** (n - i) for i in range(1, n + 1)]
            expected = sum(f * w for f, w in zip(factors, seen, strict=True)) / sum(factors)
            assert float(ema.averaged(str(decay)).weight) == pytest.approx(expected, rel=1e-5)


def test_decays_differ_however_short_the_run():
    module = nn.Linear(1, 1, bias=False)
    ema = EMA(decays=(0.99, 0.999, 0.9999))
    ema.attach(module)
    for n in range(50):
        with torch.no_grad():
            module.weight.fill_(float(n))
        ema.update()
    values = [float(ema.averaged(name).weight) for name in ema.names]
    assert values == sorted(set(values), reverse=True)  # the longer the memory, the further behind


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("count", torch.zeros(()))


def test_a_tied_weight_is_averaged_under_both_names():
    module, ema = Tied(), EMA(decays=(0.9,))
    nn.init.zeros_(module.a.weight)
    ema.attach(module)
    for _ in range(2):
        with torch.no_grad():
            module.a.weight += 1.0
            module.count += 1
        ema.update()
    expected = (0.9 * 1 + 2) / 1.9
    averaged = ema.averaged()
    assert averaged.a.weight is averaged.b.weight
    assert float(averaged.a.weight[0, 0]) == pytest.approx(expected)
    assert float(averaged.count) == 2  # a buffer is as it is
    saved = ema.state_dict()["weights"]["0.9"]
    assert float(saved["a.weight"][0, 0]) == float(saved["b.weight"][0, 0]) == pytest.approx(expected)
    other = EMA(decays=(0.9,))
    other.attach(Tied())
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.averaged().b.weight, averaged.b.weight)


def test_state_round_trip():
    torch.manual_seed(0)
    module = nn.Linear(2, 2)
    ema, other = EMA(decays=(0.9, 0.99)), EMA(decays=(0.9, 0.99))
    ema.attach(module)
    with torch.no_grad():
        module.weight.add_(1)
    ema.update()
    other.attach(nn.Linear(2, 2))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    assert torch.equal(other.averaged("0.99").weight, ema.averaged("0.99").weight)


def test_buffers_travel_with_every_average():
    def module(value):
        made = nn.Linear(2, 2)
        made.register_buffer("frequencies", torch.full((3,), value))
        made.register_buffer("table", torch.full((3,), value), persistent=False)
        return made

    ema, other = EMA(decays=(0.9, 0.99)), EMA(decays=(0.9, 0.99))
    ema.attach(module(1.0))
    other.attach(module(2.0))
    assert all(set(weights) == {"weight", "bias", "frequencies"} for weights in ema.state_dict()["weights"].values())
    other.load_state_dict(ema.state_dict())
    averaged = other.averaged("0.99")
    assert torch.equal(averaged.frequencies, torch.ones(3))
    assert torch.equal(averaged.table, torch.full((3,), 2.0))
    assert torch.equal(averaged.weight, ema.averaged("0.99").weight)


@pytest.mark.parametrize("decays", [(), (1.0,), (-0.1,)])
def test_decays_outside_the_unit_interval_are_refused(decays):
    with pytest.raises(ValueError, match="decays"):
        EMA(decays=decays)


@pytest.mark.parametrize(
    "where",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")],
        ),
    ],
)
def test_averages_off_the_device(where):
    """They lie in the host's memory, and are what they are beside the weights; copies that carry them are not there."""
    torch.manual_seed(0)
    module = nn.Linear(8, 8).to(where)
    beside, off = EMA(decays=(0.9, 0.99)), EMA(decays=(0.9, 0.99), device="cpu")
    for ema in (beside, off):
        ema.attach(module)
    for _ in range(5):
        with torch.no_grad():
            module.weight.add_(torch.randn(8, 8, device=where))
        for ema in (beside, off):
            ema.update()
    assert {w.device.type for weights in off.weights.values() for w in weights} == {"cpu"}
    for name in off.names:
        found = off.averaged(name).weight
        assert found.device == module.weight.device
        torch.testing.assert_close(found, beside.averaged(name).weight, rtol=1e-6, atol=1e-7)
    again = EMA(decays=(0.9, 0.99), device="cpu")
    again.attach(nn.Linear(8, 8).to(where))
    again.load_state_dict(beside.state_dict())
    torch.testing.assert_close(again.averaged().weight, beside.averaged().weight)


def test_a_decay_twice_is_refused():
    with pytest.raises(ValueError, match="decays must differ"):
        EMA(decays=(0.9, 0.99, 0.90))
