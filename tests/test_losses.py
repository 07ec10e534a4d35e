"""The distillation losses against the closed forms of arXiv 2509.22459, integrated on a grid, and its relatives.

Expectations are sums over grid nodes: a batch of N nodes x with weights N p(x) dx has the mean INT p(x) (...) dx.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from realuid.exact import GaussianMixture
from realuid.interpolants import EDMInterpolant, LinearInterpolant
from realuid.losses import GeneralRealUID, RealUID, Terms, gap
from realuid.targets import Data, Velocity

LABELS = torch.zeros(0, dtype=torch.int64)


class Setting(NamedTuple):
    alpha: float
    beta: float
    gamma: float
    kappa: float = 1.0
    general: bool = True

    def loss(self, target=None):
        if not self.general:
            return RealUID(target=target or Velocity(), alpha=self.alpha, beta=self.beta)
        parametrisation = "standard" if self.kappa == 1 else "beta"
        numbers = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        return GeneralRealUID(target=target or Velocity(), **numbers, parametrisation=parametrisation)


SETTINGS = [
    *(Setting(1, 1, 1, general=False), Setting(0.9, 0.9, 0.9, general=False), Setting(0.6, 0.6, 0.6, general=False)),
    *(Setting(0.92, 0.94, 0.92, general=False), Setting(0.92, 0.86, 0.92, general=False), Setting(1, 1, 1)),
    *(Setting(0.92, 0.94, 0.92), Setting(0.92, 0.94, 0.8), Setting(0.9, 1.2, 0.7), Setting(1, 0.9, 0.5)),
    *(Setting(0.92, 0.94, 0.92, kappa=0.94), Setting(0.8, 0.7, 0.9, kappa=0.7), Setting(1, 1, 0.9, kappa=1)),
]


class Scene(NamedTuple):
    """Grid nodes; real density p and generated density q there, times the cell's volume; f* and f^theta."""

    x: Tensor  # [N, D]
    p: Tensor  # [N, 1]
    q: Tensor
    teacher: Tensor  # [N, D]
    own: Tensor

    def generated(self, fake, teacher=True, target=None):
        """E_gen is linear in c: with c's mean given x_t, f^theta by definition, it has the same value."""
        target = self.own if target is None else target
        return Terms(fake, target, self.q[:, 0] * len(self.q), self.teacher if teacher else None)

    def real(self, fake, teacher=True):
        """Likewise, c has mean f* on real samples."""
        return Terms(fake, self.teacher, self.p[:, 0] * len(self.p), self.teacher if teacher else None)

    def optimum(self, s):
        """Eq. 22 for RealUID; else lemma 4: f* - delta_opt / kappa, with delta_opt over (1 - gamma) p + gamma q."""
        p, q = self.p, self.q
        if not s.general:
            return ((1 - s.beta) * p * self.teacher + s.beta * q * self.own) / ((1 - s.alpha) * p + s.alpha * q)
        delta = ((s.beta - s.alpha) * p + s.alpha * q) * self.teacher - s.beta * q * self.own
        return self.teacher - delta / ((1 - s.gamma) * p + s.gamma * q) / s.kappa

    def value(self, s):
        """Eq. 18 and lemma 4."""
        numerator = s.beta * (self.p * self.teacher - self.q * self.own) + s.alpha * (self.q - self.p) * self.teacher
        return (numerator.square().sum(1, keepdim=True) / ((1 - s.gamma) * self.p + s.gamma * self.q)).sum()


def scene(dimension, times, target=None):
    """`times` are pairs of a time and the weight of its integral."""
    part, path = slice(dimension), LinearInterpolant()

    def law(means, covariances):
        matrices = [np.array(c)[part, part].tolist() for c in covariances]
        return GaussianMixture(interpolant=path, means=[m[part] for m in means], covariances=matrices)

    real = law([[1.0, 0.5], [-1.2, 0.0]], [[[0.4, 0.2], [0.2, 0.5]], [[0.6, -0.1], [-0.1, 0.3]]])
    generator = law([[0.3, -0.2]], [[[0.8, 0.3], [0.3, 0.6]]])
    line = torch.linspace(-7, 7, {1: 281, 2: 71}[dimension], dtype=torch.float64)
    x = torch.cartesian_prod(*[line] * dimension).view(-1, dimension)
    pieces = []
    for time, weight in times:
        t = torch.full((len(x),), time, dtype=torch.float64)
        volume = weight * (line[1] - line[0]) ** dimension
        densities = [(m.log_density(x, t).exp() * volume)[:, None] for m in (real, generator)]
        pieces.append((x, *densities, *(m.predict(x, t, LABELS, target or Velocity()) for m in (real, generator))))
    return Scene(*map(torch.cat, zip(*pieces, strict=True)))


NODES, WEIGHTS = np.polynomial.legendre.leggauss(6)
SCENES = {
    "1-D": scene(1, [(0.4, 1.0)]),
    "2-D": scene(2, [(0.4, 1.0)]),
    "1-D over t": scene(1, list(zip(0.5 + 0.45 * NODES, 0.45 * WEIGHTS, strict=True))),
}
EACH_SCENE = pytest.mark.parametrize("s", SCENES.values(), ids=SCENES.keys())
EACH_SETTING = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: "-".join(map(str, s)))


def fake_loss(loss, s, fake):
    teacher = loss.fake_step_needs_teacher
    return loss.fake_loss(s.generated(fake, teacher), s.real(fake, teacher) if loss.uses_real_data else None)


@EACH_SCENE
@EACH_SETTING
def test_the_optimal_fake_minimises_the_fake_loss(s, setting):
    """It is quadratic: no gradient there, and a change e costs kappa^2 INT ||e||^2 ((1 - gamma) p + gamma q)."""
    loss, fake = setting.loss(), s.optimum(setting).requires_grad_()
    (gradient,) = torch.autograd.grad(fake_loss(loss, s, fake), fake)
    assert float((gradient / (s.p + s.q)).abs().max()) < 1e-9
    generator = torch.Generator().manual_seed(0)
    for size in (0.1, 3.0):
        e = size * torch.randn(fake.shape, generator=generator, dtype=torch.float64)
        cost = setting.kappa**2 * (e.square() * ((1 - setting.gamma) * s.p + setting.gamma * s.q)).sum()
        assert float(cost) > 0
        found = fake_loss(loss, s, fake.detach() + e) - fake_loss(loss, s, fake.detach())
        assert float(found) == pytest.approx(float(cost), rel=1e-8)


@EACH_SCENE
@EACH_SETTING
def test_the_inner_maximum(s, setting):
    """The objective at the optimal fake is the distance of eq. 18 / lemma 4, by either loss."""
    alpha, beta, gamma, kappa, general = setting
    loss, fake = setting.loss(), s.optimum(setting)
    distance = float(s.value(setting))
    assert distance > 1e-3
    least = float(fake_loss(loss, s, fake))
    if not general:  # eq. 17: the fake loss leaves out L_RUM(f*)
        squares, crosses = s.teacher.square(), s.teacher * s.own
        generated, real = alpha * squares - 2 * beta * crosses, (1 - alpha) * squares - 2 * (1 - beta) * squares
        least -= float((s.q * generated + s.p * real).sum())
    assert -least == pytest.approx(distance, rel=1e-7)
    d = kappa * (s.teacher - fake)  # the generator's loss is the line of E_gen; here is the other
    real = s.p * (-(1 - gamma) * d.square() + 2 * (beta - alpha) * d * s.teacher)
    assert float(loss.generator_loss(s.generated(fake)) + real.sum()) == pytest.approx(distance, rel=1e-7)


def test_the_distance_of_uid_is_the_gap():
    """Lemma 1: max_f L_UID = E_gen ||f* - f^theta||^2."""
    s = SCENES["2-D"]
    expected = float((s.q * (s.teacher - s.own).square()).sum())
    assert float(s.value(Setting(1, 1, 1))) == pytest.approx(expected)
    batch = torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(0))
    found = gap(Terms(batch[0], batch[0], torch.zeros(5), batch[1]))
    torch.testing.assert_close(found, (batch[0] - batch[1]).square().sum() / 5)


@pytest.mark.parametrize(("alpha", "beta", "equal"), [(1, 1, True), (0.9, 0.9, True), (0.92, 0.94, False)])
def test_the_function_that_the_loss_is_written_in_matters_unless_alpha_is_beta(alpha, beta, equal):
    """method.md 1.3: E[x1] = (1 - t) v + x_t, so the squares of data errors weigh 1 / (1 - t)^2 against velocities."""
    t, setting = 0.4, Setting(alpha, beta, alpha)
    velocity, data = SCENES["1-D"], scene(1, [(t, 1.0)], Data())
    torch.testing.assert_close(data.own, (1 - t) * velocity.own + velocity.x)
    rescaled = data._replace(p=data.p / (1 - t) ** 2, q=data.q / (1 - t) ** 2)  # w(t) = 1 / (1 - t)^2
    found = [-float(fake_loss(setting.loss(), s, s.optimum(setting))) for s in (velocity, rescaled)]
    assert found[0] == pytest.approx(float(velocity.value(setting)), rel=1e-7)
    assert found[1] == pytest.approx(float(rescaled.value(setting)), rel=1e-7)
    assert (abs(found[1] / found[0] - 1) < 1e-9) is equal
    assert (abs(found[1] / found[0] - 1) > 1e-3) is not equal


def line_law(path, target, t, mean, std):
    """Density and posterior mean, as functions of x `[N, 1]`, on a Gaussian path of x1 ~ N(mean, std^2)."""
    k = path.at(torch.tensor([t], dtype=torch.float64))
    (row,) = target.rows(k)
    variance = k.b**2 * std**2 + k.a**2

    def density(x):
        return torch.exp(-((x - k.b * mean) ** 2) / (2 * variance)) / torch.sqrt(2 * math.pi * variance)

    def field(x):
        r = (x - k.b * mean) / variance
        return row.sampled[0] * k.a * r + row.sampled[1] * (mean + k.b * std**2 * r)

    return density, field


@pytest.mark.parametrize(
    ("path", "target", "t"), [(LinearInterpolant(), Velocity(), 0.4), (EDMInterpolant(), Data(), 0.7)]
)
@pytest.mark.parametrize(
    "setting", [SETTINGS[0], SETTINGS[3], SETTINGS[7], SETTINGS[10]], ids=lambda s: "-".join(map(str, s))
)
@pytest.mark.parametrize("law", [(0.6, 0.8), (-0.3, 0.5)], ids=["elsewhere", "at the data"])
def test_the_generator_descends_the_distance(path, target, t, setting, law):
    """Envelope theorem: with the fake frozen at its optimum, the generator's loss has the gradient of the maximum."""
    centre, spread = -0.3, 0.5
    line = torch.linspace(-7.5, 7.5, 161, dtype=torch.float64)
    parameters = torch.tensor(law, dtype=torch.float64, requires_grad=True)
    p, teacher = line_law(path, target, t, centre, spread)

    def fixed(x, q, own):
        cell = torch.ones(len(x), 1, dtype=torch.float64)
        return Scene(x, p(x) * cell, q(x) * cell, teacher(x), own(x))

    x = 1.5 * line[:, None]
    distance = fixed(x, *line_law(path, target, t, *parameters)).value(setting) * (x[1, 0] - x[0, 0])
    (expected,) = torch.autograd.grad(distance, parameters)

    grid = torch.cartesian_prod(line, line)  # x0 and the generator's noise
    weight = torch.exp(-grid.square().sum(1) / 2) / (2 * math.pi) * (line[1] - line[0]) ** 2 * len(grid)
    x0, x1 = grid[:, :1], parameters[0] + parameters[1] * grid[:, 1:]
    k = path.at(torch.full((len(grid),), t, dtype=torch.float64))
    x_t = path.draw(k, x0, x1, None)
    fake = fixed(x_t, *line_law(path, target, t, *parameters.tolist())).optimum(setting)
    exact = GaussianMixture(interpolant=path, means=[[centre]], covariances=[[[spread**2]]])
    terms = Terms(fake, target.sample(k, x0, x1, None), weight, exact.predict(x_t, k.t, LABELS, target))
    (found,) = torch.autograd.grad(setting.loss(target).generator_loss(terms), parameters)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert (float(found.abs().max()) < 1e-9) is (law == (centre, spread))


def images(dtype=torch.float64, distance=1.0):
    """Generated and real terms `[4, 3, 5, 5]` of unequal weights; f = f* + distance * noise."""
    generator = torch.Generator().manual_seed(0)
    teacher, noise, target = torch.randn(3, 2, 4, 3, 5, 5, generator=generator, dtype=torch.float64).to(dtype)
    fake, weight = teacher + distance * noise, torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    return [Terms(f.requires_grad_(), c, weight, t) for f, c, t in zip(fake.unbind(), target, teacher, strict=True)]


def dot(x, y, weight):
    """Sum over pixels and channels, mean over the batch, written out."""
    return sum(w * (x[i] * y[i]).sum() for i, w in enumerate(weight)) / len(weight)


def square(x, weight):
    return dot(x, x, weight)


def gradients(loss, generated, real):
    return torch.autograd.grad(loss, (generated.fake, real.fake))


@pytest.mark.parametrize(("alpha", "beta"), [(0.92, 0.94), (0.9, 0.9), (0.5, 1.0)])
def test_realuid_is_definition_2_and_equation_17(alpha, beta):
    """fake: the gradients of alpha ||f - (beta/alpha) c||^2 and its mirror; generator: the difference of L_RUM."""
    generated, real = images()
    f, c, w, teacher = generated.fake, generated.target, generated.weight, generated.teacher
    loss = RealUID(target=Velocity(), alpha=alpha, beta=beta)
    realum = alpha * square(f - beta / alpha * c, w)
    realum = realum + (1 - alpha) * square(real.fake - (1 - beta) / (1 - alpha) * real.target, w)
    found, expected = (gradients(value, generated, real) for value in (loss.fake_loss(generated, real), realum))
    torch.testing.assert_close(found, expected)
    expected = alpha * square(teacher - beta / alpha * c, w) - alpha * square(f - beta / alpha * c, w)
    torch.testing.assert_close(loss.generator_loss(generated), expected)


def test_uid_and_its_relatives():
    """Eq. 13; twice SiD with a = 1/2 without its normaliser; FGM's form of it; the fake regresses on c."""
    generated, _ = images()
    y_f, y, w, y_r = generated.fake, generated.target, generated.weight, generated.teacher
    uid = RealUID(target=Data(), alpha=1, beta=1)
    assert not uid.uses_real_data
    found = uid.generator_loss(generated)
    delta = y_r - y_f
    torch.testing.assert_close(found, square(y_r - y, w) - square(y_f - y, w))
    torch.testing.assert_close(found, 2 * dot(delta, (y_r - y) - 0.5 * delta, w))
    torch.testing.assert_close(found, square(delta, w) + 2 * dot(delta, y_f - y, w))
    found, expected = (
        torch.autograd.grad(value, y_f)[0] for value in (uid.fake_loss(generated, None), square(y_f - y, w))
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("alpha", "beta"), [(0.92, 0.94), (0.9, 0.9), (1.0, 1.0)])
def test_general_realuid_with_gamma_alpha_is_realuid(alpha, beta):
    """The fake losses differ by terms without f: same gradients, same differences. Any other gamma is another loss."""
    terms, others = images(), images(distance=0.3)
    realuid = RealUID(target=Velocity(), alpha=alpha, beta=beta)
    for gamma, same in ((alpha, True), (0.8, False)):
        general = GeneralRealUID(target=Velocity(), alpha=alpha, beta=beta, gamma=gamma)
        values = [[loss.fake_loss(*terms), loss.fake_loss(*others)] for loss in (realuid, general)]
        changes = [first - second for first, second in values]
        pairs = [gradients(first, *terms) for first, _ in values]
        assert torch.allclose(*changes) is same
        assert all(torch.allclose(*pair) is same for pair in zip(*pairs, strict=True))
        assert torch.allclose(realuid.generator_loss(terms[0]), general.generator_loss(terms[0])) is same


@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[3], SETTINGS[7]], ids=lambda s: "-".join(map(str, s)))
def test_no_cancellation_in_single_precision(setting):
    """Near the solution f - f* is small: the difference of squares loses it in float32, the inner product does not."""
    generated, _ = images(torch.float32, distance=1e-4)
    exact = Terms(*(getattr(generated, name).double() for name in ("fake", "target", "weight", "teacher")))
    truth = setting.loss().generator_loss(exact).detach()
    error = abs(float(setting.loss().generator_loss(generated).detach() / truth - 1))
    assert error < 1e-5
    ratio, weight = setting.beta / setting.alpha, generated.weight.float()
    squares = square(generated.teacher - ratio * generated.target, weight)
    naive = setting.alpha * (squares - square(generated.fake - ratio * generated.target, weight)).detach()
    assert abs(float(naive / truth - 1)) > 100 * error


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        (RealUID, {"alpha": 0.0, "beta": 0.9}, r"alpha must lie in \(0, 1\]"),
        (RealUID, {"alpha": 1.1, "beta": 0.9}, r"alpha must lie in \(0, 1\]"),
        (RealUID, {"alpha": 0.9, "beta": -0.9}, r"beta must lie in \(0, 1\]"),
        (RealUID, {"alpha": 1.0, "beta": 0.9}, "alpha = 1 needs beta = 1"),
        (GeneralRealUID, {"alpha": 0.9, "beta": 0.9, "gamma": 0.0}, r"gamma must lie in \(0, 1\]"),
        (GeneralRealUID, {"alpha": 0.9, "beta": 0.9, "gamma": 1.2}, r"gamma must lie in \(0, 1\]"),
        (GeneralRealUID, {"alpha": 0.9, "beta": 1.0, "gamma": 1.0}, "gamma = 1 needs alpha = beta = 1"),
        (GeneralRealUID, {"alpha": 0.9, "beta": 0.0, "gamma": 0.9, "parametrisation": "beta"}, "needs beta != 0"),
    ],
)
def test_refusals(kind, numbers, message):
    with pytest.raises(ValueError, match=message):
        kind(target=Velocity(), **numbers)
