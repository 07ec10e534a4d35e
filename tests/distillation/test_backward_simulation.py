"""Few steps of which one is differentiated: by hand, and learnt on Gaussians."""

import pytest
import torch
from torch import nn

from realuid.conditions import Condition
from realuid.distillation.students import BackwardSimulation
from realuid.losses import RealUID
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.mlp import MLP
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.paths.interpolants import (
    BrownianInterpolant,
    DDBMVPInterpolant,
    DDPMInterpolant,
    EDMInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
    TrigFlowInterpolant,
    VEInterpolant,
    VPInterpolant,
)
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from tests.training.stand_ins import (
    COVARIANCE,
    MEAN,
    GaussianData,
    context,
    gaussian_distillation,
    matching_model,
)

TIMES = (0.0, 0.4, 0.8)


class Affines(Network):
    """`W_t x + c_t`, one map for each of the times."""

    def __init__(self, times=TIMES) -> None:
        super().__init__()
        self.times = times
        self.maps = nn.ModuleList(nn.Linear(2, 2) for _ in times)
        for layer in self.maps:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, time, condition):
        parts = torch.stack([layer(x) for layer in self.maps])
        which = torch.tensor([min(range(len(self.times)), key=lambda i: abs(self.times[i] - float(t))) for t in time])
        return parts[which, torch.arange(len(x))]


def normals(seed=1):
    return lambda k: torch.randn(6, 2, generator=torch.Generator().manual_seed(100 * seed + k))


def test_one_step_is_differentiated_and_the_ones_before_it_are_the_students_own():
    network = Affines()
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    student = BackwardSimulation(model=matching_model(network, LinearInterpolant(), Velocity()), times=TIMES)
    x0, noise = torch.randn(6, 2), normals()
    uniform = torch.tensor([0.0, 0.3, 0.34, 0.6, 0.7, 0.999])
    drawn = [0, 0, 1, 1, 2, 2]
    found = student.trained_on(x0, Condition(), noise, lambda: uniform)

    x, answers, seen = x0, [], []
    for i, t in enumerate(TIMES):
        seen.append(x)
        answers.append(x + (1 - t) * network.maps[i](x))
        if i < 2:
            x = (1 - TIMES[i + 1]) * noise(i) + TIMES[i + 1] * answers[i]
    expected = torch.stack([answers[step][row] for row, step in enumerate(drawn)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(student(x0, Condition(), noise), answers[-1])  # sampling takes all steps

    found.sum().backward()
    for step, layer in enumerate(network.maps):  # as if what each step starts from were given
        rows = [row for row, one in enumerate(drawn) if one == step]
        gradient = (1 - TIMES[step]) * seen[step][rows].detach().sum(0)
        torch.testing.assert_close(layer.weight.grad, gradient.expand(2, 2))


SHARES = (1.0, 0.6, 0.2)
"""Of the way to the source, in every path's own time."""
FAMILIES = [
    (LinearInterpolant(), IndependentCoupling(), Velocity()),
    (EDMInterpolant(), IndependentCoupling(), Data()),
    (VEInterpolant(), IndependentCoupling(), Data()),
    (VPInterpolant(), IndependentCoupling(), Data()),
    (TrigFlowInterpolant(), IndependentCoupling(), Velocity()),
    (DDPMInterpolant(), IndependentCoupling(), Data()),
    (BrownianInterpolant(), PairedCoupling(), Data()),
    (I2SBInterpolant(), PairedCoupling(), Data()),
    (DDBMVPInterpolant(), PairedCoupling(), Data()),
]


@pytest.mark.parametrize("redraw", [1.0, 0.3, 0.0])
@pytest.mark.parametrize(("path", "coupling", "target"), FAMILIES, ids=lambda part: type(part).__name__)
def test_in_every_family_the_last_step_is_what_sampling_gives(path, coupling, target, redraw):
    """Where the last step is drawn for all samples, an update sees what `FewSteps` makes of the same noise."""
    network, generator = MLP(shape=(2,), width=16), torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    model = MatchingModel(
        network=network,
        interpolant=path,
        coupling=coupling,
        target=target,
        preconditioning=NoPreconditioning(),
    )
    times = [path.t_data + share * (path.t_source - path.t_data) for share in SHARES]
    student = BackwardSimulation(model=model, times=times, redraw=redraw)
    x0, noise = torch.randn(6, 2, generator=generator), normals()
    found = student.trained_on(x0, Condition(), noise, lambda: torch.full((6,), 0.999))
    torch.testing.assert_close(found, student(x0, Condition(), noise))


@pytest.mark.slow
def test_the_mixture_of_the_steps_learns_the_gaussian():
    """The affine fake sees mean and covariance of both steps together: these reach the data's."""
    times, images, batch = (0.0, 0.5), 60_000, 128
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        time_sampler=UniformTime(),
        images=images,
        lr=1e-2,
    )
    model = matching_model(Affines(times), LinearInterpolant(), Velocity())
    made.student = BackwardSimulation(model=model, times=times)
    made.start(context(batch, GaussianData()))
    for index in range(images // batch):
        made.step(index)
    student = made.ema.averaged()
    torch.manual_seed(1)
    x0 = torch.randn(20_000, 2)
    drawn = [torch.randn_like(x0) for _ in range(2)]
    first = student.trained_on(x0, Condition(), drawn.__getitem__, lambda: torch.zeros(len(x0)))
    samples = torch.cat([first, student(x0, Condition(), drawn.__getitem__)])
    assert float((samples.mean(0) - MEAN).abs().max()) < 0.03
    assert float((torch.cov(samples.T) - COVARIANCE).abs().max()) < 0.04
