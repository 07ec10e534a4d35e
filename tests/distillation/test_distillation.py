"""One step of the loop: what is differentiated, what is shared, and that fewer real samples leave the loss unbiased."""

from dataclasses import replace

import pytest
import torch

from realuid.distillation.distillation import Distillation
from realuid.losses import RealUID
from realuid.paths.interpolants import LinearInterpolant
from realuid.paths.targets import Velocity
from realuid.paths.time_samplers import UniformTime
from tests.training.stand_ins import GaussianData, context, fake_loss, gaussian_distillation, generator_loss

BATCH = 48


def distillation(real_batch: int = BATCH, alpha: float = 0.6, beta: float = 0.7, lanes: int = 4) -> Distillation:
    """alpha far from 1, so that the real part weighs as much as the generated one."""
    torch.manual_seed(0)
    made = gaussian_distillation(
        interpolant=LinearInterpolant(),
        loss=RealUID(target=Velocity(), alpha=alpha, beta=beta),
        time_sampler=UniformTime(),
        images=10_000,
        real_batch=real_batch,
    )
    made.start(context(BATCH, GaussianData(), lanes=lanes))
    return made


def fake_gradient(made: Distillation, draws: int) -> torch.Tensor:
    """Mean and standard error of the fake network's gradient over independent draws: `[2, n]`."""
    gradients = []
    for n in range(draws):
        made.fake.zero_grad()
        fake_loss(made, n, n).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in made.fake.parameters()]))
    stacked = torch.stack(gradients)
    return torch.stack([stacked.mean(0), stacked.std(0) / draws**0.5])


def test_one_sixth_of_the_real_samples_gives_the_same_expected_gradient():
    equal = fake_gradient(distillation(BATCH), 400)
    sixth = fake_gradient(distillation(BATCH // 6), 400)
    z = (equal[0] - sixth[0]) / (equal[1] ** 2 + sixth[1] ** 2 + 1e-20).sqrt()
    assert float(z.square().mean()) < 1.3  # independent estimates of one mean: about 1
    cosine = torch.nn.functional.cosine_similarity(equal[0], sixth[0], dim=0)
    assert float(cosine) > 0.97


def test_a_real_part_left_out_would_be_noticed():
    """The test above can fail: without the real part the mean gradient is far away."""
    full = fake_gradient(distillation(BATCH), 200)
    made = distillation(BATCH)
    draw = made.inputs.draw
    made.inputs.draw = lambda *which: [replace(inputs, real=None) for inputs in draw(*which)]
    without = fake_gradient(made, 200)
    z = (full[0] - without[0]) / (full[1] ** 2 + without[1] ** 2 + 1e-20).sqrt()
    assert float(z.square().mean()) > 5


def test_real_samples_share_time_and_noise_with_the_first_generated_ones_of_their_lane():
    made = distillation(real_batch=8, lanes=4)
    assert made.inputs._real_rows(made.context).tolist() == [0, 1, 12, 13, 24, 25, 36, 37]


def test_each_network_is_differentiated_only_in_its_own_step():
    made = distillation()
    made.fake.requires_grad_(True)
    fake_loss(made, 0, 0).backward()
    assert all(p.grad is None for p in made.student.parameters())
    assert all(p.grad is not None for p in made.fake.parameters())

    made.fake.zero_grad()
    made.fake.requires_grad_(False)
    generator_loss(made, 5).backward()
    assert all(p.grad is None for p in made.fake.parameters())
    assert all(p.grad is not None for p in made.student.parameters())


def test_a_step_updates_the_fake_k_times_and_the_student_once():
    made = distillation()
    made.step(0)
    optimizers = (made.fake_optimizer.optimizer, made.student_optimizer.optimizer)
    assert [int(next(iter(o.state.values()))["step"]) for o in optimizers] == [made.updates.fake_steps, 1]
    assert made.ema.updates == 1


def test_uid_reads_no_real_data():
    made = distillation(alpha=1.0, beta=1.0)
    made.context.data.batch = lambda start, count: pytest.fail("data were read")
    made.step(0)


def test_the_fake_sees_generated_and_real_samples_in_one_forward_pass():
    made = distillation(real_batch=8)
    sizes = []
    made.fake.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    fake_loss(made, 0, 0)
    assert sizes == [BATCH + 8]


@pytest.mark.parametrize("real_batch", [BATCH + 4, 6])
def test_a_real_batch_that_does_not_fit_is_refused(real_batch):
    with pytest.raises(ValueError, match="real_batch"):
        distillation(real_batch=real_batch)


def test_an_exact_teacher_has_no_weights_to_start_from():
    made = distillation()
    made.fake_init = "teacher"
    with pytest.raises(ValueError, match="exact teacher"):
        made.start(made.context)
