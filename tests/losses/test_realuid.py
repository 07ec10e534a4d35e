"""RealUID and General RealUID against the closed forms of arXiv 2509.22459, integrated on a grid."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch

from realuid.conditions import Condition
from realuid.losses import GeneralRealUID, RealUID, gap
from realuid.models.exact import GaussianMixture
from realuid.paths.interpolants import EDMInterpolant, LinearInterpolant
from realuid.paths.targets import Data, Velocity
from tests.losses.scenes import SCENES, Scene, dot, images, line_law, scene, square, timeless


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
    *(Setting(0.9, 0.95, 0.8), Setting(0.9, 0.95, 0.8, kappa=0.95)),
    *(Setting(0.92, 0.94, 0.92, kappa=0.94), Setting(0.8, 0.7, 0.9, kappa=0.7), Setting(1, 1, 0.9, kappa=1)),
]


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
    found = gap(timeless(batch[0], batch[0], torch.zeros(5), batch[1]))
    torch.testing.assert_close(found, (batch[0] - batch[1]).square().sum() / 5)


@pytest.mark.parametrize(("alpha", "beta", "equal"), [(1, 1, True), (0.9, 0.9, True), (0.92, 0.94, False)])
def test_the_function_that_the_loss_is_written_in_matters_unless_alpha_is_beta(alpha, beta, equal):
    """E[x1] = (1 - t) v + x_t, so the squares of data errors weigh 1 / (1 - t)^2 against velocities."""
    t, setting = 0.4, Setting(alpha, beta, alpha)
    velocity, data = SCENES["1-D"], scene(1, [(t, 1.0)], Data())
    torch.testing.assert_close(data.own, (1 - t) * velocity.own + velocity.x)
    rescaled = data._replace(p=data.p / (1 - t) ** 2, q=data.q / (1 - t) ** 2)  # w(t) = 1 / (1 - t)^2
    found = [-float(fake_loss(setting.loss(), s, s.optimum(setting))) for s in (velocity, rescaled)]
    assert found[0] == pytest.approx(float(velocity.value(setting)), rel=1e-7)
    assert found[1] == pytest.approx(float(rescaled.value(setting)), rel=1e-7)
    assert (abs(found[1] / found[0] - 1) < 1e-9) is equal
    assert (abs(found[1] / found[0] - 1) > 1e-3) is not equal


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (0.9, 0.9), (0.92, 0.94), (0.92, 0.86)])
@pytest.mark.parametrize(("scale", "slope"), [(0.7, 0), (-1.3, 0), (1, 0.5), (-0.6, 2.0)])
def test_affine_changes_of_the_function_matter_only_by_their_slope(alpha, beta, scale, slope):
    """f -> scale f + slope x with weight 1 / scale^2: for alpha != beta, (beta - alpha)(p - q) f* does not scale with
    the rest of eq. 18 unless slope = 0."""
    setting, s = Setting(alpha, beta, alpha), SCENES["1-D"]
    changed = s._replace(
        **{name: getattr(s, name) / scale**2 for name in ("p", "q")},
        **{name: scale * getattr(s, name) + slope * s.x for name in ("teacher", "own")},
    )
    first, second = (-float(fake_loss(setting.loss(), each, each.optimum(setting))) for each in (s, changed))
    assert first == pytest.approx(float(s.value(setting)), rel=1e-7)
    assert (second == pytest.approx(first, rel=1e-9)) is (slope == 0 or alpha == beta)
    assert (abs(second / first - 1) > 1e-3) is (slope != 0 and alpha != beta)


def test_gamma_counts():
    """The authors' code for general losses weighs ||d||^2 by alpha in gamma's place: its maximum is another."""
    s, ours, theirs = SCENES["1-D"], Setting(0.9, 0.95, 0.8), Setting(0.9, 0.95, 0.9)
    found = -float(fake_loss(ours.loss(), s, s.optimum(ours)))
    assert found == pytest.approx(float(s.value(ours)), rel=1e-7)
    assert found != pytest.approx(float(s.value(theirs)), rel=1e-2)


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
        k = path.at(torch.full((len(x),), t, dtype=torch.float64))
        return Scene(x, p(x) * cell, q(x) * cell, teacher(x), own(x), k)

    x = 1.5 * line[:, None]
    distance = fixed(x, *line_law(path, target, t, *parameters)).value(setting) * (x[1, 0] - x[0, 0])
    (expected,) = torch.autograd.grad(distance, parameters)

    grid = torch.cartesian_prod(line, line)  # x0 and the generator's noise
    weight = torch.exp(-grid.square().sum(1) / 2) / (2 * math.pi) * (line[1] - line[0]) ** 2 * len(grid)
    x0, x1 = grid[:, :1], parameters[0] + parameters[1] * grid[:, 1:]
    k = path.at(torch.full((len(grid),), t, dtype=torch.float64))
    x_t = path.interpolate(k, x0, x1, None)
    fake = fixed(x_t, *line_law(path, target, t, *parameters.tolist())).optimum(setting)
    exact = GaussianMixture(interpolant=path, means=[[centre]], covariances=[[[spread**2]]])
    terms = timeless(fake, target.sample(k, x0, x1, None), weight, exact.predict(x_t, k.t, Condition(), target))
    (found,) = torch.autograd.grad(setting.loss(target).generator_loss(terms), parameters)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert (float(found.abs().max()) < 1e-9) is (law == (centre, spread))


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
    """Eq. 13, which is IBMD's difference too; FGM's form before it drops a term; the fake regresses on c."""
    generated, _ = images()
    y_f, y, w, y_r = generated.fake, generated.target, generated.weight, generated.teacher
    uid = RealUID(target=Data(), alpha=1, beta=1)
    assert not uid.uses_real_data
    found = uid.generator_loss(generated)
    delta = y_r - y_f
    torch.testing.assert_close(found, square(y_r - y, w) - square(y_f - y, w))
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
    exact = timeless(
        *(part.double() for part in (generated.fake, generated.target, generated.weight, generated.teacher))
    )
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
