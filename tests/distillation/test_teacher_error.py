"""How wrong a teacher is: against quadrature on Gaussians, and what the rule makes of it."""

from dataclasses import replace

import pytest
import torch

from realuid.check.gaussian import UNCONDITIONAL, GaussianPairs, Moments
from realuid.distillation.teacher_error import correction_for, fitted_correction, teacher_error
from realuid.losses import Terms
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.interpolants import Coefficients, LinearInterpolant
from realuid.paths.targets import Data, Velocity

COUNT = 40_000


def law(mean, std):
    return GaussianPairs(
        interpolant=LinearInterpolant(),
        coupling=IndependentCoupling(),
        moments=Moments(0.0, mean, 1.0, std**2, 0.0),
    )


RIGHT, WRONG = law(0.2, 0.5), law(0.35, 0.6)


def weight(t):
    return 0.5 + t


def samples(model, target, seed=0):
    """Real samples, f* of WRONG and another model's prediction."""
    generator = torch.Generator().manual_seed(seed)
    x0, e = torch.randn(2, COUNT, 1, generator=generator, dtype=torch.float64)
    t = 0.98 * (torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT
    x1, k = 0.2 + 0.5 * e, RIGHT.interpolant.at(t)
    x_t = RIGHT.interpolant.interpolate(k, x0, x1, 0 * x0)
    teacher, fake = (each.predict(x_t, t, UNCONDITIONAL, target) for each in (WRONG, model))
    return Terms(fake, target.sample(k, x0, x1, 0 * x0), weight(t), teacher, x_t=x_t, k=k)


def by_quadrature(target):
    """E w |f^p - f*|^2: both are affine in x_t, so two points of each time's normal law tell all."""
    t = 0.98 * (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    mean, std = RIGHT.spread(t)
    values = []
    for side in (-1, 1):
        x = mean + side * std  # Gauss-Hermite of two nodes, exact for squares of affine functions
        first, second = (each.predict(x, t, UNCONDITIONAL, target) for each in (RIGHT, WRONG))
        values.append(((first - second).square()[:, 0] * weight(t)).mean())
    return float(sum(values) / 2)


@pytest.mark.parametrize("target", [Velocity(), Data()], ids=lambda target: type(target).__name__)
def test_the_datas_own_posterior_mean_measures_the_error(target):
    found = teacher_error([samples(RIGHT, target)])
    assert found.squared == pytest.approx(by_quadrature(target), abs=4 * found.deviation)
    assert found.deviation < 0.2 * found.squared
    assert found.loss > found.squared


def test_a_model_half_the_way_knows_it_too_and_another_less():
    """d need only point the right way; where it does not the bound is lower."""
    exact = by_quadrature(Data())
    half = teacher_error([samples(law(0.275, 0.55), Data())])
    assert half.squared == pytest.approx(exact, rel=0.1)
    aside = teacher_error([samples(law(0.2, 0.7), Data())])
    assert aside.squared < 0.9 * exact
    assert teacher_error([samples(WRONG, Data())]).squared == 0
    assert teacher_error([samples(law(0.6, 0.8), Data())]).squared == 0  # away from the data


@pytest.mark.parametrize("target", [Velocity(), Data()], ids=lambda target: type(target).__name__)
def test_a_fitted_correction_needs_no_other_model(target):
    """f^p - f* is affine in f* and x_t on Gaussians, at each time: parts of the time lose little of it."""
    correction = fitted_correction([samples(WRONG, target, seed=1)])
    found = teacher_error([correction(samples(WRONG, target))])
    exact = by_quadrature(target)
    assert found.squared == pytest.approx(exact, abs=4 * found.deviation)
    assert found.squared == pytest.approx(exact, rel=0.1)


def test_a_right_teacher_has_no_error_to_be_fitted():
    """What was fitted to noise is told from what holds for other samples."""

    def right(seed):
        return replace(samples(RIGHT, Data(), seed), teacher=samples(RIGHT, Data(), seed).fake)

    found = teacher_error([fitted_correction([right(1)])(right(0))])
    assert found.squared < 0.02 * by_quadrature(Data())
    assert teacher_error([fitted_correction([right(0)])(right(0))]).squared > found.squared  # judged by its own


def test_a_correction_of_images_is_one_of_each_entry():
    """Two entries, of which the teacher is wrong in one; an entry that never changes does no harm."""
    parts = [samples(WRONG, Data(), seed) for seed in (0, 1)]

    def images(terms):
        still = torch.zeros_like(terms.target)

        def three(x, right):
            return torch.stack([x, right, still], dim=1)

        known = samples(RIGHT, Data(), 0 if terms is parts[0] else 1).fake
        teacher = three(terms.teacher, known)
        return replace(
            terms,
            fake=teacher,
            target=three(terms.target, terms.target),
            teacher=teacher,
            x_t=three(terms.x_t, terms.x_t),
        )

    tested, fitted = map(images, parts)
    corrected = fitted_correction([fitted])(tested)
    assert corrected.fake.shape == tested.target.shape
    assert teacher_error([corrected]).squared == pytest.approx(by_quadrature(Data()), rel=0.1)
    moved = (corrected.fake - corrected.teacher).square().mean(0).flatten()
    assert moved[1] < 0.02 * moved[0]
    assert moved[2] == 0
    with pytest.raises(ValueError, match="800 samples are needed for 100 parts"):
        fitted_correction([replace(fitted, **{n: _take(v, slice(0, 700)) for n, v in vars(fitted).items()})], parts=100)


def _take(value, rows):
    return value.take(rows) if isinstance(value, Coefficients) else value[rows]


def test_batches_add_up():
    whole = samples(RIGHT, Data())
    rows = slice(0, 999), slice(999, None)
    parts = [Terms(**{name: _take(value, part) for name, value in vars(whole).items()}) for part in rows]
    assert teacher_error(parts).squared == pytest.approx(teacher_error([whole]).squared)
    with pytest.raises(ValueError, match="at least two samples"):
        teacher_error([])


@pytest.mark.parametrize("error", [0.1, 1.0, 5.0])
def test_the_rule_is_the_best_of_all(error):
    noise = 0.7
    r = torch.linspace(0, 1, 1001, dtype=torch.float64)
    cost = (1 - r) ** 2 * error + (1 + r**2) * noise
    assert correction_for(error, noise) == pytest.approx(float(r[cost.argmin()]), abs=1e-3)
    with pytest.raises(ValueError, match="not both zero"):
        correction_for(0.0, 0.0)


@pytest.mark.parametrize("error", [0.04, 0.25, 1.0])
def test_the_rule_in_a_game_with_noise(error):
    """Means of unit Gaussians: data at 0, teacher at `error`, student at m, which follows what a noisy fake network
    says of it. Over the student's own swings the best r is near the rule's."""
    generator = torch.Generator().manual_seed(0)
    r = torch.linspace(0, 1, 21, dtype=torch.float64)
    swing, step = 0.5, 0.05
    m, total = torch.zeros(4000, len(r), dtype=torch.float64), torch.zeros(len(r), dtype=torch.float64)
    for k in range(600):
        generated, real = swing * torch.randn(2, len(m), 1, generator=generator, dtype=torch.float64)
        m = m - step * ((m - error + generated) - r * (-error + real))  # D[q] - r D[p] and the noise of both
        if k >= 200:
            total += m.square().mean(0)
    noise = float(total[0] / 400 - error**2)  # of UID, r = 0
    best = float(r[total.argmin()])
    assert correction_for(error**2, noise) == pytest.approx(best, abs=0.08)
