"""Generated samples that several updates see: what stays, what is drawn anew, and that gradients expect the same."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from realuid.conditions import LABEL
from realuid.distillation.distillation import Distillation
from realuid.distillation.students import FewSteps
from realuid.losses import RealUID, Reflected
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Data, Velocity
from realuid.paths.time_samplers import UniformTime
from realuid.training.randomness import Randomness
from tests.distillation import test_sources as sources
from tests.distillation.test_adversary import distillation as with_adversary
from tests.distillation.test_idle_teacher import idle
from tests.distillation.test_lora import distillation as of_networks
from tests.distillation.test_lora import mlp, started
from tests.distillation.test_warm_start import distillation as warm
from tests.training.stand_ins import GaussianData, context, gaussian_distillation, generator_loss

BATCH, LANES, REAL = 32, 4, 8


def gaussian(parts: int = 1, **changes) -> Distillation:
    """Of Gaussians; alpha and beta far from 1, so that the real part weighs as much as the generated one."""
    torch.manual_seed(0)
    settings = {"fake_steps": 3, "steps_per_sample": 3, "loss": RealUID(target=Velocity(), alpha=0.6, beta=0.7)}
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        time_sampler=UniformTime(),
        images=10_000,
        real_batch=REAL,
        **(settings | changes),
    )
    made.start(replace(context(BATCH, GaussianData(1000), lanes=LANES), parts=parts))
    return made


def weights(made: Distillation) -> Tensor:
    parts = (p for network in (made.student, made.fake) for p in network.parameters())
    return torch.cat([p.detach().flatten() for p in parts])


DRAWN = {
    (1, 1): {"generator": [4, 5, 6, 7], "source": [4, 5, 6, 7], "time": [4, 5, 6, 7]},
    (2, 1): {"generator": [3, 4, 5], "source": [4, 5, 6, 7], "time": [4, 5, 6, 7]},
    (3, 1): {"generator": [2, 3], "source": [4, 5, 6, 7], "time": [4, 5, 6, 7]},
    (9, 1): {"generator": [2, 3], "source": [4, 5, 6, 7], "time": [4, 5, 6, 7]},
    (1, 2): {
        "generator": [4, 5, 6, 7],
        "source": [4, 5, 6, 7],
        "time": [4, 5, 6, 7],
        "time 1 source": [7],
        "time 1 time": [7],
    },
}


@pytest.mark.parametrize(("seen", "times"), DRAWN)
def test_what_is_drawn_in_the_second_step_of_three_updates_and_one(seen, times, monkeypatch):
    """By purpose, the numbers that draws are keyed with. Those of 1, 1 are what runs before these settings drew."""
    made, drawn = gaussian(steps_per_sample=seen, times_per_sample=times), {}
    own = Randomness._draw

    def noted(self, purpose, step, count, draw):
        drawn.setdefault(purpose, []).append(step)
        return own(self, purpose, step, count, draw)

    monkeypatch.setattr(Randomness, "_draw", noted)
    made.step(1)
    assert drawn == DRAWN[seen, times]


@pytest.mark.parametrize(("seen", "passes"), [(1, 4), (2, 3), (3, 2), (9, 2)])
def test_the_student_runs_once_for_so_many_updates(seen, passes):
    made, asked = gaussian(steps_per_sample=seen), []
    made.student.register_forward_hook(lambda *_: asked.append(None))
    made.step(0)
    assert len(asked) == passes
    assert made.images_read(BATCH) == 3 * REAL


def gradients(made: Distillation, update: int, draws: int = 200) -> Tensor:
    """Mean and standard error of the fake network's gradient in one of the updates of a step, weights as they are."""
    found = []
    for index in range(draws):
        steps = made.updates.of_fake(made.context, made.inputs, made.objectives.generated, index, True)
        ((substep, inputs, x1),) = list(steps)[update]
        made.fake.zero_grad()
        made.objectives.fake(made.context, substep, inputs, x1)[0].backward()
        found.append(torch.cat([p.grad.flatten() for p in made.fake.parameters()]))
    stacked = torch.stack(found)
    return torch.stack([stacked.mean(0), stacked.std(0) / draws**0.5])


def agreement(one: Tensor, other: Tensor) -> float:
    """Of independent estimates of one mean: about 1."""
    return float(((one[0] - other[0]) / (one[1] ** 2 + other[1] ** 2 + 1e-20).sqrt()).square().mean())


def test_samples_seen_again_give_the_same_expected_gradient():
    fresh, again = (gradients(gaussian(steps_per_sample=seen), update=2) for seen in (1, 3))
    assert agreement(fresh, again) < 1.3
    other = gaussian(steps_per_sample=3)
    with torch.no_grad():
        other.student.model.network.linear.bias += 0.1
    assert agreement(fresh, gradients(other, update=2)) > 2  # samples of another student would be noticed


@pytest.mark.slow
def test_several_times_a_sample_give_the_same_expected_gradient_with_less_noise():
    def found(times: int) -> Tensor:
        made, each = gaussian(times_per_sample=times), []
        made.fake_network.train(False, made.parallelism)
        for index in range(150):
            made.student.zero_grad()
            generator_loss(made, index).backward()
            each.append(torch.cat([p.grad.flatten() for p in made.student.parameters()]))
        stacked = torch.stack(each)
        return torch.stack([stacked.mean(0), stacked.std(0) / len(each) ** 0.5])

    once, often = found(1), found(4)
    assert agreement(once, often) < 2.5  # of six entries alone
    assert float(once[0].norm() / once[1].norm()) > 10  # what would be noticed
    assert float((often[1] / once[1]).mean()) < 0.8


def test_the_loss_of_several_times_is_the_mean_of_each():
    """UID's, E|f* - c|^2 - E|f - c|^2 at the same x1, written out."""
    made = gaussian(times_per_sample=3, loss=RealUID(target=Velocity(), alpha=1.0, beta=1.0))
    made.fake_network.train(False, made.parallelism)
    (inputs,) = made.inputs.draw(made.context, 5)
    x1, path, drawn = made.objectives.generated(made.context, inputs), LinearInterpolant(), made.context.randomness
    losses = []
    for purpose in ("", "time 1 ", "time 2 "):
        x0 = drawn.normal(f"{purpose}source", 5, BATCH, (2,))
        t = made.time_sampler.quantile(drawn.uniform(f"{purpose}time", 5, BATCH), path)
        x_t = ((1 - t)[:, None] * x0 + t[:, None] * x1).float()
        f_star, f = (
            m.predict_at(path.at(t), x_t, inputs.condition, Velocity(), x0) for m in (made.teacher.model, made.fake)
        )
        c = x1 - x0
        losses.append(((f_star - c).square() - (f - c).square()).sum(1).mean().item())
    assert generator_loss(made, 5).item() == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert max(losses) - min(losses) > 1e-2


@pytest.mark.parametrize("name", sources.COUPLINGS)
def test_sources_of_the_data_are_read_once(name):
    """x0, label and x1 stay; times change; the real images are the next of the batch, with sources of their own."""
    made = sources.distillation(sources.COUPLINGS[name], fake_steps=3, steps_per_sample=2)
    data, read, batch = sources.Sources(), [], made.context.data.batch
    made.context.data.batch = lambda start, count: read.append((start, count)) or batch(start, count)
    made.step(0)
    made.step(1)
    size, real = sources.BATCH, sources.REAL
    assert read == [(n * size, size) for n in range(6)]  # two batches of the fake network's three updates, and one
    assert made.images_read(size) == 3 * size
    assert len(made.generated) == 6
    first, again, *_ = made.asked
    for (x_t, t, labels, x0), turn in ((first, 0), (again, 1)):
        _, told, x1 = made.generated[0]
        torch.testing.assert_close(sources.sample(x_t, t, x0)[:size], x1, rtol=1e-3, atol=1e-3)
        assert torch.equal(labels[:size], told)
        share, lane = real // sources.LANES, size // sources.LANES
        rows = [i * lane + turn * share + j for i in range(sources.LANES) for j in range(share)]
        torch.testing.assert_close(sources.sample(x_t, t, x0)[size:], data.vectors[rows], rtol=1e-3, atol=1e-3)
        assert torch.equal(labels[size:], torch.tensor(rows) % 3)
        assert torch.equal(t[size:], t[rows])
        if name == "pairs":
            assert torch.equal(x0[size:], data.sources[rows])
    assert not bool((first[1] == again[1]).any())


def test_real_images_of_the_noise_source_are_new_in_every_update():
    coupling = IndependentCoupling()
    made = sources.distillation(coupling, fake_steps=3, steps_per_sample=3)
    read, batch = [], made.context.data.batch
    made.context.data.batch = lambda start, count: read.append((start, count)) or batch(start, count)
    made.step(0)
    made.step(1)
    assert read == [(n * sources.REAL, sources.REAL) for n in range(6)]
    labels, noise = ([points[n][: sources.BATCH] for points in made.asked[:3]] for n in (2, 3))
    assert all(torch.equal(labels[0], others) for others in labels[1:])
    assert not bool((noise[0] == noise[1]).any())


def test_samples_of_several_steps_are_seen_again():
    coupling = IndependentCoupling()
    student = FewSteps(model=sources.model(coupling), times=(0.0, 0.5))
    made = sources.distillation(coupling, student=student, fake_steps=3, steps_per_sample=2)
    made.step(0)
    points = [sources.sample(x_t, t, x0)[: sources.BATCH] for x_t, t, _, x0 in made.asked[:3]]
    torch.testing.assert_close(points[0], points[1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(points[1], points[2], atol=1e-2)


CHANGES = {
    "samples made once": {},
    "for two updates each": {"steps_per_sample": 2},
    "reflected": {"loss": Reflected(loss=RealUID(target=Data(), alpha=1.0, beta=1.0), correction=1.0)},
    "several times": {"times_per_sample": 3},
}


@pytest.mark.parametrize("case", CHANGES)
def test_micro_batches_are_one_batch(case):
    made = [gaussian(parts, **CHANGES[case]) for parts in (1, 2, 4)]
    for one in made:
        one.step(0)
        one.step(1)
    for other in made[1:]:
        torch.testing.assert_close(weights(other), weights(made[0]), rtol=1e-4, atol=1e-5)


def test_micro_batches_of_sources_are_one_batch():
    found = []
    for parts in (1, 3):
        made = sources.distillation(sources.COUPLINGS["two sets"], fake_steps=3, steps_per_sample=2, times_per_sample=2)
        made.context = replace(made.context, parts=parts)
        made.step(0)
        found.append(weights(made))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CHANGES)
def test_a_resumed_run_is_the_same(case):
    whole, first, second = (gaussian(**CHANGES[case]) for _ in range(3))
    for index in range(4):
        whole.step(index)
    for index in range(2):
        first.step(index)
    second.load_state_dict(first.state_dict())
    for index in (2, 3):
        second.step(index)
    assert torch.equal(weights(second), weights(whole))


def test_a_teacher_may_be_away_while_the_samples_are_seen(tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save(mlp().state_dict(), path)
    both = [of_networks(str(path), mlp(), mlp()), idle(str(path), mlp(), mlp())]
    for made in both:
        made.updates = replace(made.updates, steps_per_sample=2)
        started(made).step(0)
    assert torch.equal(weights(both[0]), weights(both[1]))


def test_an_adversary_sees_them_at_times_of_its_own(tmp_path):
    made, asked = with_adversary(tmp_path, steps_per_sample=2, times_per_sample=2), []
    encode = made.fake.encode

    def watched(k, x_t, condition, x0):
        asked.append((k.t, condition[LABEL], len(x_t)))
        return encode(k, x_t, condition, x0)

    made.fake.encode = watched
    made.step(0)
    times, labels, counts = zip(*asked, strict=True)
    size = made.context.batch
    assert counts == (size + 4, size + 4, size, size)
    assert torch.equal(labels[0][:size], labels[1][:size])
    assert torch.equal(labels[2], labels[3])
    for one, other in ((times[0], times[1]), (times[2], times[3])):
        assert not bool((one == other).any())


def test_a_warm_start_comes_first():
    made = warm(2)
    made.updates = replace(made.updates, steps_per_sample=made.updates.fake_steps)
    made.start(context(64, GaussianData(500)))
    asked = []
    for index in range(3):
        asked.append(0)
        handle = made.student.register_forward_hook(lambda *_: asked.append(asked.pop() + 1))
        made.step(index)
        handle.remove()
    assert asked == [0, 0, 2]


@pytest.mark.parametrize("name", ["fake_steps", "steps_per_sample", "times_per_sample"])
def test_refusals(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        gaussian(**{name: 0})
