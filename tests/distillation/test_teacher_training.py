"""Training a teacher: its loss written out, and conditions dropped for guidance."""

import pytest
import torch

from realuid import checkpoints
from realuid.conditions import LABEL, class_label, labelled
from realuid.data.dataset import Batch
from realuid.distillation.teacher_training import TeacherTraining
from realuid.models.matching import MatchingModel
from realuid.networks.mlp import MLP
from realuid.networks.unet import UNet
from realuid.paths.couplings import IndependentCoupling, MinibatchOT
from realuid.paths.interpolants import BrownianInterpolant, LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import ExpressionWeight, UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, ConstantLR
from realuid.utils.errors import CheckpointError
from tests.training.stand_ins import GaussianData, context, matching_model

BATCH, CLASSES = 512, 3


class Labelled(GaussianData):
    def __init__(self):
        super().__init__(2000)
        self.classes = CLASSES

    @property
    def label_counts(self):
        return torch.tensor([1, 1, 1])

    def batch(self, start, count):
        images, _, _ = super().batch(start, count)
        return Batch(images, labelled(torch.arange(start, start + count) % CLASSES))


class Watched(MLP):
    """A network that keeps what it was shown and told."""

    def __init__(self):
        super().__init__(shape=(2,), width=8, depth=1, classes=CLASSES + 1)
        self.conditions, self.calls = class_label(CLASSES), []

    has_null = True

    def forward(self, x, time, condition):
        self.calls.append((x.detach(), time, condition[LABEL]))
        return super().forward(x, time, condition)


def training(*, batch=BATCH, seed=0, coupling=None, path=None, weight=None, lanes=1, **changes):
    torch.manual_seed(0)
    model = MatchingModel(
        network=Watched(),
        interpolant=path or LinearInterpolant(),
        coupling=coupling or IndependentCoupling(),
        target=Velocity(),
        preconditioning=NoPreconditioning(),
    )
    made = TeacherTraining(
        model=model,
        sampler=Euler(steps=2, grid=UniformGrid()),
        time_sampler=UniformTime(low=0.1, high=0.9),
        weight=weight or UnitWeight(),
        optimizer=Adam(lr=1e-3, lr_schedule=ConstantLR()),
        ema=EMA(decays=(0.9,)),
        **changes,
    )
    made.start(context(batch, Labelled(), seed=seed, lanes=lanes))
    return made


def told(made, steps=4):
    for index in range(steps):
        made.step(index)
    return torch.cat([labels for _, _, labels in made.model.network.calls])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_labels_are_dropped_in_the_stated_share_and_independently_of_what_they_were(share):
    labels = told(training(condition_dropout=share), 8)
    own = torch.arange(8 * BATCH) % CLASSES
    dropped = labels == CLASSES
    assert torch.equal(labels[~dropped], own[~dropped])
    bound = 4 * (share * (1 - share) / len(labels)) ** 0.5
    assert float(dropped.double().mean()) == pytest.approx(share, abs=bound)
    for label in range(CLASSES):
        assert float(dropped[own == label].double().mean()) == pytest.approx(share, abs=2 * bound)


def test_without_dropout_every_label_is_told():
    assert torch.equal(told(training()), torch.arange(4 * BATCH) % CLASSES)


def test_dropping_labels_changes_nothing_else():
    """Times, noise and samples are those of the same run without it; which labels go depends on seed and step alone."""
    plain, dropping, again = training(), training(condition_dropout=0.3), training(condition_dropout=0.3)
    for made in (plain, dropping, again):
        told(made, 2)
    for (x, t, _), (y, s, labels), (_, _, others) in zip(
        *(made.model.network.calls for made in (plain, dropping, again)), strict=True
    ):
        assert torch.equal(x, y)
        assert torch.equal(t, s)
        assert torch.equal(labels, others)
    assert not torch.equal(told(training(condition_dropout=0.3, seed=1), 1), dropping.model.network.calls[0][2])


def test_minibatch_transport_by_label_goes_by_the_labels_before_they_are_dropped():
    seen = []

    class Noted(MinibatchOT):
        def pair(self, x0, x1, condition):
            seen.append(condition[LABEL])
            return super().pair(x0, x1, condition)

    training(batch=24, coupling=Noted(size=8, by_label=True), condition_dropout=0.5).step(0)
    assert torch.equal(seen[0], torch.arange(24) % CLASSES)


def test_a_teacher_is_trained_further_from_the_average_of_another(tmp_path):
    first = training()
    for index in range(20):
        first.step(index)
    averaged = first.ema.averaged().network.state_dict()
    path = str(tmp_path / "first.pt")
    checkpoints.save(path, {"ema": first.ema.whole_state_dict()})
    further = training(init=path, seed=1)
    for name, value in further.model.network.state_dict().items():
        assert torch.equal(value, averaged[name])
        assert torch.equal(further.ema.averaged().network.state_dict()[name], value)
    assert not torch.equal(averaged["out.weight"], training().model.network.state_dict()["out.weight"])
    with pytest.raises(CheckpointError, match="there is no checkpoint nowhere"):
        training(init="nowhere.pt")


def test_the_loss_is_the_weighted_squared_error_of_the_velocity():
    made = training(weight=ExpressionWeight(weight="2 + t"), batch=64, path=BrownianInterpolant(scale=0.5))
    network = made.model.network
    with torch.no_grad():
        network.out.weight.zero_()
        network.out.bias.copy_(torch.tensor([0.3, -0.2]))
    loss = made.step(0)["teacher_loss"]
    ((x_t, t, _),) = network.calls
    x1, t = made.context.data.vectors[:64], t.double()[:, None]
    randomness = made.context.randomness
    x0, z = (randomness.normal(purpose, 0, 64, (2,)) for purpose in ("source", "latent"))
    root = (t * (1 - t)).sqrt()
    torch.testing.assert_close(x_t.double(), (1 - t) * x0 + t * x1 + 0.5 * root * z, rtol=1e-4, atol=1e-4)
    velocity = x1 - x0 + 0.5 * (1 - 2 * t) / (2 * root) * z
    squares = (torch.tensor([0.3, -0.2]) - velocity).square()
    assert loss.item() == pytest.approx(((2 + t) * squares).mean().item(), rel=1e-4)


def test_lanes_must_hold_whole_groups():
    with pytest.raises(
        ValueError, match=r"batch = 24 must divide into 2 lanes of whole groups of 8 \(MinibatchOT.size\)"
    ):
        training(batch=24, lanes=2, coupling=MinibatchOT(size=8))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_of_zero_and_one_is_refused(share):
    with pytest.raises(ValueError, match=r"condition_dropout must lie in \[0, 1\)"):
        training(condition_dropout=share)


def test_dropping_conditions_needs_a_null_condition():
    model = matching_model(
        UNet(shape=(1, 8, 8), width=8, multipliers=(1,), attention=(), classes=3), LinearInterpolant(), Velocity()
    )
    training = TeacherTraining(
        model=model,
        sampler=Euler(steps=1, grid=UniformGrid()),
        time_sampler=UniformTime(),
        weight=UnitWeight(),
        optimizer=Adam(lr=1e-3, lr_schedule=ConstantLR()),
        ema=EMA(decays=(0.9,)),
        condition_dropout=0.1,
    )
    data = GaussianData()
    data.classes = 3
    with pytest.raises(ValueError, match=r"UNet\.null_label = True"):
        training.start(context(4, data))
