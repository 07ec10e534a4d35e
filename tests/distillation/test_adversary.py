"""The real loop with a GAN head, losses that leave the networks alone, and resuming with everything there is."""

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from realuid.conditions import LABEL, labelled
from realuid.data.dataset import Batch, Dataset
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import OneStep
from realuid.distillation.teachers import Teacher
from realuid.losses import DMD, RealUID, SiD
from realuid.losses.adversarial import Adversary, Discriminator
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.networks.unet import UNet
from realuid.paths.couplings import IndependentCoupling, PairedCoupling
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.preconditioning import NoPreconditioning
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.paths.weights import UnitWeight
from realuid.samplers import Euler, UniformGrid
from realuid.training.ema import EMA
from realuid.training.optimizers import Adam, ConstantLR
from tests.training.stand_ins import context, fake_loss, generator_loss, matching_model

SHAPE, BATCH, LANES = (1, 4, 4), 8, 2


class Images(Dataset):
    """Random images of two classes with random sources."""

    def __init__(self) -> None:
        self.shape, self.classes, self.has_sources = SHAPE, 2, True
        generator = torch.Generator().manual_seed(0)
        self.images, self.sources = torch.randint(256, (2, 40, *SHAPE), generator=generator).to(torch.uint8)
        self.reads: list[tuple[int, int]] = []

    def missing(self) -> str | None:
        return None

    def open(self, *, seed: int, device: torch.device) -> None: ...

    def __len__(self) -> int:
        return len(self.images)

    @property
    def label_counts(self) -> Tensor:
        return torch.tensor([20, 20])

    @property
    def checksum(self) -> str:
        return "images"

    def batch(self, start: int, count: int) -> Batch:
        self.reads.append((start, count))
        return self.examples(start, count)

    def examples(self, start: int, count: int) -> Batch:
        rows = torch.arange(start, start + count) % len(self)
        return Batch(self.images[rows], labelled(rows % 2), self.sources[rows])


def model(coupling=None, target=None, seed=0) -> MatchingModel:
    torch.manual_seed(seed)
    network = UNet(shape=SHAPE, width=8, multipliers=(1, 2), blocks=1, attention=(), group_channels=4, classes=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape))
    return MatchingModel(
        network=network,
        interpolant=LinearInterpolant(),
        coupling=coupling or IndependentCoupling(),
        target=target or Velocity(),
        preconditioning=NoPreconditioning(),
    )


def adversary(**changes) -> Adversary:
    settings = {
        "head": Discriminator(channels=16),
        "time_sampler": UniformTime(high=0.2),
        "fake_weight": 0.7,
        "generator_weight": 0.3,
    }
    return Adversary(**(settings | changes))


def distillation(folder, *, coupling=None, start=True, **changes) -> Distillation:
    """Of a teacher with random weights, read from a file."""
    teacher, path = model(coupling), folder / "teacher.pt"
    torch.save(teacher.network.state_dict(), path)
    adam = {"lr": 1e-3, "lr_schedule": ConstantLR()}
    settings = {
        "teacher": Teacher(model=teacher, sampler=Euler(steps=2, grid=UniformGrid()), checkpoint=str(path)),
        "student": OneStep(model=model(coupling)),
        "fake": model(coupling),
        "loss": RealUID(target=Velocity(), alpha=0.92, beta=0.94),
        "time_sampler": UniformTime(low=0.1, high=0.9),
        "weight": UnitWeight(),
        "student_optimizer": Adam(**adam),
        "fake_optimizer": Adam(**adam),
        "ema": EMA(decays=(0.9, 0.5)),
        "fake_steps": 2,
        "real_batch": 4,
        "fake_init": "teacher",
        "adversary": adversary(),
    }
    made = Distillation(**(settings | changes))
    if start:
        made.start(context(BATCH, Images(), lanes=LANES))
    return made


def flat(module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


def gradient(module) -> Tensor:
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in module.parameters()])


def test_a_step_trains_the_head_with_the_fake(tmp_path):
    made = distillation(tmp_path)
    networks = made.networks()
    assert list(networks) == ["student", "fake", "head", "teacher"]
    before = {role: flat(network) for role, network in networks.items()}
    made.step(0)
    changed = {role: not torch.equal(flat(network), before[role]) for role, network in networks.items()}
    assert changed == {"student": True, "fake": True, "head": True, "teacher": False}
    counts = {int(state["step"]) for state in made.fake_optimizer.optimizer.state.values()}
    assert counts == {2}
    assert len(made.fake_optimizer.optimizer.state) == sum(
        len(list(networks[role].parameters())) for role in ("fake", "head")
    )


def test_in_the_generators_step_the_head_is_frozen_but_differentiated(tmp_path):
    made = distillation(tmp_path)
    made.fake_network.train(False, made.parallelism)
    assert not any(p.requires_grad for role in ("fake", "head") for p in made.networks()[role].parameters())
    generator_loss(made, 5).backward()
    assert all(p.grad is None for role in ("fake", "head", "teacher") for p in made.networks()[role].parameters())
    full = gradient(made.student)
    made.student.zero_grad()
    made.objectives.adversary = None
    generator_loss(made, 5).backward()
    assert bool((full - gradient(made.student)).abs().max() > 1e-4)  # what the head adds reaches the student


def test_what_the_head_adds_to_either_loss(tmp_path):
    """softplus of the logits at the adversary's own times, of generated and of real samples: written out."""
    made = distillation(tmp_path)
    asked = []
    encode = made.fake.encode

    def watched(k, x_t, condition, x0):
        asked.append((x_t, k.t, condition[LABEL]))
        return encode(k, x_t, condition, x0)

    made.fake.encode = watched
    with_head = fake_loss(made, 3, 1).item()
    with_head_generator = generator_loss(made, 3).item()
    both, seen = asked
    generated, real = ([part[rows] for part in both] for rows in (slice(BATCH), slice(BATCH, None)))
    made.objectives.adversary, head = None, made.adversary
    without = fake_loss(made, 3, 1).item()
    without_generator = generator_loss(made, 3).item()

    def logits(x_t, t, labels):
        return head.head(made.fake.network.encode(x_t, t.float(), labelled(labels)))

    expected = 0.7 * (F.softplus(logits(*generated)).mean() + F.softplus(-logits(*real)).mean())
    assert with_head - without == pytest.approx(expected.item(), rel=1e-4)
    expected = 0.3 * F.softplus(-logits(*seen)).mean()
    assert with_head_generator - without_generator == pytest.approx(expected.item(), rel=1e-3)
    for x_t, t, _ in asked:
        assert 0.8 <= float(t.min()) < float(t.max()) <= 1  # noise levels up to 0.2
        assert len(x_t) == len(t)
    of_the_loss = UniformTime(low=0.1, high=0.9).quantile(
        made.context.randomness.uniform("time", 3, BATCH), LinearInterpolant()
    )
    assert not torch.allclose((1 - generated[1]) / 0.2, (0.9 - of_the_loss) / 0.8)  # draws of its own
    assert len(real[1]) == 4
    assert torch.equal(real[1], generated[1][made.inputs._real_rows(made.context)])
    assert torch.equal(real[2], Images().examples(4, 4).condition[LABEL])


@pytest.mark.parametrize("loss", [SiD(target=Velocity(), a=1.0), RealUID(target=Velocity(), alpha=1.0, beta=1.0)])
def test_losses_without_real_data_read_them_for_the_head_alone(loss, tmp_path):
    """The regression of the fake sees generated samples alone; the head both."""
    for head, reads in ((None, []), (adversary(), [(0, 4), (4, 4)])):
        made = distillation(tmp_path, loss=loss, adversary=head)
        sizes = []
        made.fake.network.register_forward_hook(
            lambda module, inputs, output, sizes=sizes: sizes.append(len(inputs[0]))
        )
        made.step(0)
        assert sizes == [BATCH] * 3
        assert made.context.data.reads == reads
        assert made.images_read(BATCH) == 4 * len(reads)


@pytest.mark.parametrize(
    ("loss", "graphs"),
    [
        (DMD(target=Data()), False),
        (RealUID(target=Velocity(), alpha=0.92, beta=0.94), True),
    ],
    ids=["DMD", "RealUID"],
)
def test_dmd_builds_no_graphs_through_teacher_and_fake_in_the_generators_step(loss, graphs, tmp_path):
    made = distillation(tmp_path, loss=loss, adversary=None, fake_init="random")  # as the teacher it had no gradient
    built = {"teacher": [], "fake": []}
    for role, inner in (("teacher", made.teacher.model), ("fake", made.fake)):
        inner.network.register_forward_hook(
            lambda module, inputs, output, role=role: built[role].append(output.requires_grad)
        )
    made.fake_network.train(False, made.parallelism)
    generator_loss(made, 5).backward()
    assert built == {"teacher": [graphs], "fake": [graphs]}
    assert bool(gradient(made.student).abs().max() > 0)


def test_dmd_with_an_adversary_differentiates_the_head_all_the_same(tmp_path):
    made = distillation(tmp_path, loss=DMD(target=Data()))
    made.loss.generator_loss = lambda terms: 0 * terms.target.sum()
    made.fake_network.train(False, made.parallelism)
    generator_loss(made, 5).backward()
    assert bool(gradient(made.student).abs().max() > 0)


CASES = {
    "an adversary": {},
    "pairs": {"coupling": PairedCoupling(), "adversary": None},
    "two sets": {"coupling": IndependentCoupling(source="data"), "adversary": None},
    "pairs and an adversary": {"coupling": PairedCoupling()},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_equals_one_that_was_not_stopped(name, tmp_path):
    def saved(made):
        file = io.BytesIO()
        torch.save({"method": made.state_dict(), "ema": made.ema.state_dict()}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def fresh():
        changes = dict(CASES[name])
        return distillation(tmp_path, **({"adversary": adversary()} | changes))

    whole = fresh()
    metrics = [whole.step(index) for index in range(4)]
    first = fresh()
    for index in range(2):
        first.step(index)
    second = fresh()
    with torch.no_grad():  # whatever it started from
        for network in (second.student, second.fake):
            for parameter in network.parameters():
                parameter.zero_()
    state = saved(first)
    second.load_state_dict(state["method"])
    second.ema.load_state_dict(state["ema"])
    resumed = [second.step(index) for index in (2, 3)]
    for one, other in zip(metrics[2:], resumed, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    for role, network in whole.networks().items():
        assert torch.equal(flat(network), flat(second.networks()[role])), role
    for average in whole.ema.names:
        assert torch.equal(flat(whole.ema.averaged(average)), flat(second.ema.averaged(average)))


def test_a_fake_without_middle_features_is_refused(tmp_path):
    class Plain(Network):
        def forward(self, x, time, condition):
            return x

    plain = matching_model(Plain(), LinearInterpolant(), Velocity())
    with pytest.raises(ValueError, match="an adversary reads the fake's middle features"):
        distillation(tmp_path, start=False, fake=plain)


def test_a_head_for_other_features_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Discriminator.channels = 24, but the adversary's fake network gives 16"):
        distillation(tmp_path, start=False, adversary=adversary(head=Discriminator(channels=24)))


def test_times_of_the_adversary_must_lie_on_the_path(tmp_path):
    class Late(UniformTime):
        def quantile(self, u, interpolant):
            return 1.5 + u

    with pytest.raises(ValueError, match=r"Late draws times from 1\.5 to 2\.5, outside the path"):
        distillation(tmp_path, start=False, adversary=adversary(time_sampler=Late()))
