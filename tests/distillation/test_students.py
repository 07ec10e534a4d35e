"""Students against their steps written out, and as the teacher that they start from."""

from __future__ import annotations

import pytest
import torch

from realuid.conditions import labelled
from realuid.distillation.initialisation import start_from
from realuid.distillation.students import FewSteps, OneStep
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.paths.conversions import UndeterminedError
from realuid.paths.couplings import IndependentCoupling, MinibatchOT, PairedCoupling
from realuid.paths.interpolants import (
    BrownianInterpolant,
    EDMInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
)
from realuid.paths.preconditioning import EDMPreconditioning, NoPreconditioning
from realuid.paths.targets import Data, Noise, Velocity

SHAPE = (2, 4, 4)
CONDITION = labelled(torch.tensor([0, 2, 1]))


def unet(in_multiplier=1, **changes):
    """A U-Net whose every weight is random: at its own start it answers zero."""
    torch.manual_seed(0)
    settings = {"shape": SHAPE, "width": 8, "multipliers": (1, 2), "blocks": 1, "group_channels": 4, "classes": 3}
    network = UNet(**(settings | {"in_multiplier": in_multiplier} | changes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape))
    return network


def mlp(in_multiplier=1, **changes):
    torch.manual_seed(0)
    return MLP(**({"shape": SHAPE, "width": 16, "depth": 2, "classes": 3, "in_multiplier": in_multiplier} | changes))


def model(network, path=None, target=None, coupling=None, preconditioning=None, source_conditioned=False):
    return MatchingModel(
        network=network,
        interpolant=path or LinearInterpolant(),
        coupling=coupling or IndependentCoupling(),
        target=target or Velocity(),
        preconditioning=preconditioning or NoPreconditioning(),
        source_conditioned=source_conditioned,
    )


def normals(seed=1):
    """The k-th fresh noise, written down as it is drawn."""
    asked = []

    def noise(k):
        asked.append(k)
        return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(100 * seed + k))

    return noise, asked


def source(seed=0):
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(seed))


FRAMEWORKS = {
    "flow matching": ({}, None, 0.0),
    "EDM": (
        {"path": EDMInterpolant(), "target": Data(), "preconditioning": EDMPreconditioning(sigma_data=0.7)},
        2.5,
        2.5,
    ),
    "bridge": ({"path": BrownianInterpolant(), "target": Data(), "coupling": PairedCoupling()}, None, 0.0),
    "I2SB": ({"path": I2SBInterpolant(), "target": Data(), "coupling": PairedCoupling()}, None, 1.0),
    "bridge told x0": (
        {"path": BrownianInterpolant(), "target": Data(), "coupling": PairedCoupling(), "source_conditioned": True},
        None,
        0.0,
    ),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("make", [unet, mlp])
@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_student_starts_as_the_data_prediction_of_its_teacher(name, make, images):
    """Whatever noise it is given: the new input channels are zero. x_init = a(t_init) x0, the data term dropped."""
    settings, time, native = FRAMEWORKS[name]
    own = 1 + settings.get("source_conditioned", False)
    teacher = model(make(own), **settings)
    student = OneStep(model=model(make(own + images), **settings), time=time, noise=images)
    start_from(student.model, teacher)
    x0, (noise, asked) = source(), normals()
    t = torch.full((3,), native, dtype=torch.float64)
    a = float(teacher.interpolant.at(t).a[0])
    expected = teacher.predict(a * x0, t, CONDITION, Data(), x0)
    torch.testing.assert_close(student(x0, CONDITION, noise), expected, rtol=1e-5, atol=1e-5)
    assert asked == list(range(images))
    torch.testing.assert_close(student(x0, CONDITION, normals(2)[0]), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(student(source(5), CONDITION, noise), expected)


def test_the_new_channels_learn():
    student = OneStep(model=model(unet(3)), noise=2)
    start_from(student.model, model(unet()))
    student(source(), CONDITION, normals()[0]).square().sum().backward()
    gradient = student.model.network.input_blocks[0][0].weight.grad
    assert bool((gradient[:, 2:].flatten(2).abs().amax((0, 2)) > 0).all())


def test_linear_flow_matching_is_x0_plus_velocity():
    inner = model(unet())
    x0 = source()
    expected = x0 + inner.network(x0, torch.zeros(3), CONDITION)
    torch.testing.assert_close(OneStep(model=inner)(x0, CONDITION, normals()[0]), expected)


@pytest.mark.parametrize("images", [0, 1])
@pytest.mark.parametrize("redraw", [1.0, 0.3, 0.0])
def test_few_steps_from_noise_by_hand(images, redraw):
    """Denoise, put back on the path with part of the noise drawn anew, denoise again (2303.01469, algorithm 1)."""
    inner = model(unet(1 + images), path=EDMInterpolant(), target=Data())
    times = (80.0, 5.0, 0.7)
    student = FewSteps(model=inner, times=times, redraw=redraw, noise=images)
    x0, (noise, asked) = source(), normals()
    found = student(x0, CONDITION, noise)
    assert len(asked) == len(set(asked)) == 3 * images + 2 * (redraw > 0)
    assert sorted(asked) == list(range(len(asked)))

    fresh = normals()[0]
    x = 80 * x0
    for i, sigma in enumerate(times):
        beside = [fresh(i)] if images else []
        x1 = inner.network(torch.cat([x, *beside], dim=1), torch.full((3,), sigma), CONDITION)
        if i < 2:
            kept = (1 - redraw) ** 0.5 * (x - x1) / sigma
            x = x1 + times[i + 1] * (kept + redraw**0.5 * fresh(3 * images + i))
    torch.testing.assert_close(found, x1)


@pytest.mark.parametrize("source_conditioned", [False, True])
def test_few_steps_from_images_by_hand(source_conditioned):
    """x_s = (1 - s) x0 + s x1 + sqrt(s (1 - s)) xi with the sample's own x0 (IBMD 2502.01362, section 3.4)."""
    inner = model(
        unet(1 + source_conditioned),
        path=BrownianInterpolant(),
        target=Data(),
        coupling=PairedCoupling(),
        source_conditioned=source_conditioned,
    )
    student = FewSteps(model=inner, times=(0.0, 0.4, 0.8))
    x0, (noise, asked) = source(), normals()
    found = student(x0, CONDITION, noise)
    assert asked == [0, 1]

    def predict(x, t):
        shown = torch.cat([x, x0], dim=1) if source_conditioned else x
        return inner.network(shown, torch.full((3,), t), CONDITION)

    fresh = normals()[0]
    x1 = predict(x0, 0.0)
    for i, s in enumerate((0.4, 0.8)):
        x1 = predict((1 - s) * x0 + s * x1 + (s * (1 - s)) ** 0.5 * fresh(i), s)
    torch.testing.assert_close(found, x1)


def test_gradients_flow_through_all_steps():
    inner = model(unet(), path=EDMInterpolant(), target=Data())
    seen = []
    inner.network.register_forward_hook(lambda module, inputs, output: seen.append(output) or output.retain_grad())
    FewSteps(model=inner, times=(80.0, 5.0, 0.7))(source(), CONDITION, normals()[0]).sum().backward()
    assert len(seen) == 3
    assert all(bool(output.grad.any()) for output in seen)


def test_names():
    assert OneStep(model=model(unet())).name == "OneStep"
    assert FewSteps(model=model(unet()), times=(0.0, 0.5)).name == "FewSteps(0.0, 0.5)"


class Nothing(Network):
    def forward(self, x, time, condition):
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneStep(model=model(Nothing()), noise=-1), "noise must be at least 0, got -1"),
        (
            lambda: OneStep(model=model(Nothing()), time=1.5),
            "time = 1.5 must lie on the path .* from 0 to 1, before its",
        ),
        (lambda: OneStep(model=model(Nothing()), time=1.0), "time = 1.0 must lie on the path"),
        (lambda: OneStep(model=model(Nothing(), path=EDMInterpolant(), target=Data()), time=81.0), "from 80 to 0"),
        (lambda: FewSteps(model=model(Nothing()), times=(0.0,)), "times must be two or more"),
        (lambda: FewSteps(model=model(Nothing()), times=(0.5, 0.0)), "running towards the data, got"),
        (lambda: FewSteps(model=model(Nothing()), times=(0.0, 0.0)), "running towards the data, got"),
        (lambda: FewSteps(model=model(Nothing()), times=(0.0, 1.0)), "inside the path from 0 to 1"),
        (lambda: FewSteps(model=model(Nothing()), times=(-0.1, 0.5)), "inside the path from 0 to 1"),
        (
            lambda: FewSteps(model=model(Nothing(), path=EDMInterpolant(), target=Data()), times=(1.0, 2.0)),
            "inside the path from 80 to 0 and running towards the data",
        ),
        (
            lambda: FewSteps(model=model(Nothing()), times=(0.0, 0.5), redraw=1.5),
            r"redraw must lie in \[0, 1\] or be 'markov', got 1.5",
        ),
        (
            lambda: FewSteps(
                model=model(Nothing(), path=BrownianInterpolant(), coupling=coupling(), target=Data()), times=(0.0, 0.5)
            ),
            "FewSteps needs a Gaussian source or pairs: between unpaired images x0 would be lost",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def coupling():
    return MinibatchOT(size=2, source="data")


def test_a_student_needs_the_data_where_it_starts():
    """Noise prediction has no data prediction at pure noise; a bridge's velocity has none anywhere."""
    with pytest.raises(UndeterminedError, match="Data from Noise is unbounded at time 0 of LinearInterpolant"):
        OneStep(model=model(Nothing(), target=Noise()))
    OneStep(model=model(Nothing(), target=Noise()), time=0.1)
    with pytest.raises(UndeterminedError, match="Data from Noise is unbounded at time 0 of LinearInterpolant"):
        FewSteps(model=model(Nothing(), target=Noise()), times=(0.0, 0.5))
    with pytest.raises(UndeterminedError, match=r"Data\[0\] is not determined"):
        OneStep(model=model(Nothing(), path=BrownianInterpolant(), coupling=PairedCoupling()))
