"""Distillation with source images, by what the three models are asked: which x0 goes with which sample.

The path has no noise z, so that x1 = (x_t - a x0) / b shows which sample a point was made from.
"""

import pytest
import torch
from torch import Tensor, nn

from realuid.conditions import LABEL, labelled
from realuid.data.dataset import Batch
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teacher_training import TeacherTraining
from realuid.distillation.teachers import Teacher
from realuid.losses import RealUID
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.mlp import MLP
from realuid.paths.couplings import Coupling, IndependentCoupling, MinibatchOT, PairedCoupling
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import TimeSampler, UniformTime
from realuid.paths.weights import ExpressionWeight, UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, ConstantLR
from tests.gaussian_pairs import GaussianPairs, pairs
from tests.training.stand_ins import GaussianData, context

BATCH, LANES, REAL = 24, 3, 6


class Sources(GaussianData):
    """Vectors with a source each; every number occurs once, the labels tell the rows apart by thirds."""

    def __init__(self, count: int = 500) -> None:
        super().__init__(count)
        self.classes, self.has_sources = 3, True
        self.sources = torch.randn(count, 2, generator=torch.Generator().manual_seed(8))

    @property
    def label_counts(self) -> Tensor:
        return torch.tensor([2, 2, 1])

    def batch(self, start: int, count: int) -> Batch:
        rows = torch.arange(start, start + count) % len(self)
        return Batch(self.vectors[rows], labelled(rows % 3), self.sources[rows])


class Asked(MatchingModel):
    """A fake network that keeps what it was asked."""

    def predict_at(self, k, x_t, condition, target, x0=None, noise=None):
        self.questions.append((x_t.detach(), k.t, condition[LABEL], x0))
        return super().predict_at(k, x_t, condition, target, x0, noise)


class Exact(GaussianPairs):
    """An exact teacher that does so, too."""

    def predict_at(self, k, x_t, condition, target, x0=None):
        self.questions.append((x_t.detach(), k.t, condition[LABEL], x0))
        return super().predict_at(k, x_t, condition, target, x0)


def model(coupling: Coupling, kind: type[MatchingModel] = MatchingModel) -> MatchingModel:
    return kind(
        network=MLP(shape=(2,), width=16, depth=1, classes=3),
        interpolant=LinearInterpolant(),
        coupling=coupling,
        target=Velocity(),
        preconditioning=NoPreconditioning(),
    )


def distillation(coupling: Coupling, *, batch: int = BATCH, **changes) -> Distillation:
    torch.manual_seed(0)
    teacher, fake = Exact(LinearInterpolant(), *pairs(), coupling), model(coupling, Asked)
    teacher.questions, fake.questions = [], []
    adam = {"lr": 1e-3, "lr_schedule": ConstantLR()}
    settings = {
        "teacher": Teacher(model=teacher, sampler=Euler(steps=2, grid=UniformGrid())),
        "student": OneStep(model=model(coupling)),
        "fake": fake,
        "loss": RealUID(target=Velocity(), alpha=0.9, beta=0.95),
        "time_sampler": UniformTime(low=0.2, high=0.8),
        "weight": UnitWeight(),
        "student_optimizer": Adam(**adam),
        "fake_optimizer": Adam(**adam),
        "ema": EMA(decays=(0.9,)),
        "fake_steps": 2,
        "real_batch": REAL,
        "student_init": "random",
    }
    made = Distillation(**(settings | changes))
    data = Sources()
    made.start(context(batch, data, lanes=LANES))
    made.generated = []

    def note(module, inputs, output):
        made.generated.append((inputs[0], inputs[1][LABEL], output.detach()))

    made.student.register_forward_hook(note)
    made.asked, made.teacher_asked = fake.questions, teacher.questions
    return made


def sample(x_t, t, x0):
    """x1 of a point of the linear path."""
    t = t.float()[:, None]
    return (x_t.float() - (1 - t) * x0) / t


def rows_of_real_samples():
    return [lane * BATCH // LANES + i for lane in range(LANES) for i in range(REAL // LANES)]


COUPLINGS = {
    "pairs": PairedCoupling(),
    "two sets": IndependentCoupling(source="data"),
    "minibatch OT of two sets": MinibatchOT(size=2, source="data"),
}


@pytest.mark.parametrize("name", COUPLINGS)
def test_which_source_goes_with_which_generated_sample(name):
    """Pairs keep the x0 that a sample was made from; elsewhere a sample meets one of its lane that it was not made
    from: with its own, source and sample would depend on each other as the teacher's pairs do not."""
    made = distillation(COUPLINGS[name])
    made.step(0)
    assert len(made.generated) == len(made.asked) == 3
    for (x0, labels, x1), (x_t, t, told, given) in zip(made.generated, made.asked, strict=True):
        torch.testing.assert_close(sample(x_t, t, given)[:BATCH], x1, rtol=1e-3, atol=1e-3)
        assert torch.equal(told[:BATCH], labels)
        match = (given[:BATCH, None] == x0[None]).all(2)
        assert bool((match.sum(1) == 1).all())
        origin = match.int().argmax(1)  # whose source every sample was paired with
        own = torch.arange(BATCH)
        assert sorted(origin.tolist()) == own.tolist()
        assert torch.equal(origin // (BATCH // LANES), own // (BATCH // LANES))
        if name == "pairs":
            assert torch.equal(origin, own)
        elif name == "two sets":
            assert not bool((origin == own).any())
        else:
            rolled = x0.view(LANES, -1, 2).roll(1, dims=1).reshape(-1, 2)
            assert torch.equal(given[:BATCH], COUPLINGS[name].pair(rolled, x1, labelled(labels)))


@pytest.mark.parametrize("name", COUPLINGS)
def test_real_samples_come_with_their_own_source_label_and_the_time_of_their_row(name):
    made, data = distillation(COUPLINGS[name]), Sources()
    made.step(0)
    rows = rows_of_real_samples()
    for step in range(2):
        x_t, t, labels, x0 = made.asked[step]
        assert len(t) == BATCH + REAL
        assert torch.equal(t[BATCH:], t[rows])
        batch = data.batch(step * BATCH, BATCH)
        own = torch.tensor(rows)
        truth, sources = data.vectors[step * BATCH + own], data.sources[step * BATCH + own]
        torch.testing.assert_close(sample(x_t, t, x0)[BATCH:], truth, rtol=1e-3, atol=1e-3)
        assert torch.equal(labels[BATCH:], batch.condition[LABEL][own])
        expected = COUPLINGS[name].pair(sources, truth, batch.condition.take(own))
        torch.testing.assert_close(x0[BATCH:], expected, rtol=1e-4, atol=1e-4)
    assert len(made.asked[2][1]) == BATCH  # the generator's step has none


def test_every_update_reads_a_batch_of_its_own():
    made, data = distillation(PairedCoupling()), Sources()
    made.step(0)
    made.step(1)
    for update, (x0, labels, _) in enumerate(made.generated):
        rows = torch.arange(update * BATCH, (update + 1) * BATCH) % len(data)
        torch.testing.assert_close(x0, data.sources[rows], rtol=1e-4, atol=1e-4)
        assert torch.equal(labels, rows % 3)
    assert made.images_read(BATCH) == 3 * BATCH


def test_teacher_and_fake_are_asked_about_the_same_points():
    made = distillation(PairedCoupling())
    made.step(0)
    (asked,) = made.teacher_asked  # of RealUID in the generator's step alone
    assert all(torch.equal(one, other) for one, other in zip(asked, made.asked[2], strict=True))


@pytest.mark.parametrize("coupling", [PairedCoupling(), IndependentCoupling()], ids=["pairs", "noise"])
def test_the_generators_law_of_times_is_used_in_its_step_and_nowhere_else(coupling):
    """Noise levels, 1 - t on the linear path; the weight likewise."""

    class Weights(UnitWeight):
        def __init__(self):
            self.seen = []

        def __call__(self, k):
            self.seen.append(k.t)
            return super().__call__(k)

    weight, generator_weight = Weights(), Weights()
    made = distillation(
        coupling,
        time_sampler=UniformTime(low=0.5, high=0.6),
        generator_time_sampler=UniformTime(low=0.2, high=0.3),
        weight=weight,
        generator_weight=generator_weight,
    )
    weight.seen.clear()
    generator_weight.seen.clear()
    made.step(0)
    for t in (made.asked[0][1], made.asked[1][1], *weight.seen):
        assert 0.4 <= float(t.min()) < float(t.max()) <= 0.5
    for t in (made.asked[2][1], *generator_weight.seen):
        assert 0.7 <= float(t.min()) < float(t.max()) <= 0.8
    assert len(weight.seen) == 2  # two updates, generated and real samples together
    assert len(generator_weight.seen) == 1


class Late(TimeSampler):
    def quantile(self, u, interpolant):
        return 0.5 + u


REFUSALS = {
    "a student of noise": (
        {"student": lambda: OneStep(model=model(IndependentCoupling()))},
        "the student starts from a gaussian source, the teacher's coupling has a data source",
    ),
    "a weight that is not positive in the generator's step": (
        {
            "generator_time_sampler": lambda: UniformTime(low=0.2, high=0.3),
            "generator_weight": lambda: ExpressionWeight(weight="0.75 - t"),
        },
        r"ExpressionWeight is -0.05 at time 0.8",
    ),
    "times outside of the path in the generator's step": (
        {"generator_time_sampler": lambda: Late()},
        r"Late draws times from 0.5 to 1.5, outside the path",
    ),
    "real samples that do not divide": ({"real_batch": lambda: 4}, r"real_batch = 4 must divide into 3 lanes"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_parts_that_do_not_fit_are_refused(name):
    changes, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        distillation(PairedCoupling(), **{key: make() for key, make in changes.items()})


def test_lanes_must_hold_whole_groups():
    with pytest.raises(
        ValueError, match=r"batch = 24 must divide into 3 lanes of whole groups of 3 \(MinibatchOT.size\)"
    ):
        distillation(MinibatchOT(size=3, source="data"))
    with pytest.raises(ValueError, match=r"real_batch = 6 must divide into 3 lanes of whole groups of 4"):
        distillation(MinibatchOT(size=4, source="data"))


def test_a_lane_of_one_has_nothing_to_exchange():
    with pytest.raises(ValueError, match="unpaired source images are exchanged within a lane"):
        distillation(IndependentCoupling(source="data"), batch=3, real_batch=3)


def test_data_without_sources_are_refused():
    made = distillation(PairedCoupling())
    made.context.data.batch = lambda start, count: GaussianData(50).batch(start, count)
    with pytest.raises(ValueError, match=r"takes its source from the data, but Trainer\.data gives no source"):
        made.step(0)


@pytest.mark.parametrize("name", COUPLINGS)
def test_a_teacher_is_trained_on_the_pairs_of_its_coupling(name):
    seen = []

    class Watched(MLP):
        def forward(self, x, time, condition):
            seen.append((x.detach(), time, condition))
            return super().forward(x, time, condition)

    coupling, data = COUPLINGS[name], Sources()
    inner = MatchingModel(
        network=Watched(shape=(2,), width=8, classes=3),
        interpolant=LinearInterpolant(),
        coupling=coupling,
        target=Velocity(),
        preconditioning=NoPreconditioning(),
    )
    training = TeacherTraining(
        model=inner,
        sampler=Euler(steps=2, grid=UniformGrid()),
        time_sampler=UniformTime(low=0.2, high=0.8),
        weight=UnitWeight(),
        optimizer=Adam(lr=1e-3, lr_schedule=ConstantLR()),
        ema=EMA(decays=(0.9,)),
    )
    training.start(context(BATCH, data, lanes=LANES))
    training.step(1)
    ((x_t, time, condition),) = seen
    x1, sources = data.vectors[BATCH : 2 * BATCH], data.sources[BATCH : 2 * BATCH]
    assert torch.equal(condition[LABEL], torch.arange(BATCH, 2 * BATCH) % 3)
    t = time[:, None]
    expected = (1 - t) * coupling.pair(sources, x1, condition) + t * x1
    torch.testing.assert_close(x_t, expected, rtol=1e-4, atol=1e-4)


class Unused(Network):
    """A network that must not be reached."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, condition):
        pytest.fail("the network was asked")


def test_sources_are_needed_before_the_network_is_asked():
    inner = model(PairedCoupling())
    inner.network = Unused()
    training = TeacherTraining(
        model=inner,
        sampler=Euler(steps=2, grid=UniformGrid()),
        time_sampler=UniformTime(),
        weight=UnitWeight(),
        optimizer=Adam(lr=1e-3, lr_schedule=ConstantLR()),
        ema=EMA(decays=(0.9,)),
    )
    training.start(context(BATCH, GaussianData(50)))
    with pytest.raises(ValueError, match=r"Trainer\.data gives no source images"):
        training.step(0)
