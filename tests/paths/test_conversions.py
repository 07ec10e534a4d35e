"""Conversions with the exact posterior of Gaussian mixtures as truth, and limits at the ends derived by hand."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from realuid.conditions import Condition
from realuid.models.exact import GaussianMixture
from realuid.models.matching import MatchingModel
from realuid.networks.base import Network
from realuid.paths.conversions import Conversion, UndeterminedError
from realuid.paths.couplings import IndependentCoupling, MinibatchOT, PairedCoupling
from realuid.paths.interpolants import (
    BrownianGamma,
    BrownianInterpolant,
    DDBMVEInterpolant,
    DDBMVPInterpolant,
    EDMInterpolant,
    ExpressionInterpolant,
    I2SBInterpolant,
    LinearInterpolant,
    MirrorInterpolant,
)
from realuid.paths.preconditioning import NoPreconditioning, Preconditioning, Scalings
from realuid.paths.targets import (
    Data,
    ExpressionTarget,
    ForwardDrift,
    Noise,
    PathNoise,
    Score,
    Stack,
    Velocity,
    VPrediction,
)
from tests.gaussian_pairs import GaussianPairs, pairs

PATHS = {
    "linear": LinearInterpolant(),
    "edm": EDMInterpolant(sigma_max=4.0),
    "brownian": BrownianInterpolant(scale=0.7),
    "two-sided": BrownianInterpolant(scale=math.sqrt(2)),
}
TARGETS = (
    *(Velocity(), Data(), Noise(), Score(), PathNoise()),
    *(Stack((Velocity(), Score())), Stack((Data(), PathNoise())), Stack((Noise(), Velocity(), Data()))),
)
UNCONDITIONAL = Condition()


def name(target):
    return "+".join(map(name, target.targets)) if isinstance(target, Stack) else type(target).__name__


def truth(path):
    return GaussianMixture(
        interpolant=path,
        means=[[0.5, -1.0], [-1.5, 0.3]],
        covariances=[[[0.5, 0.3], [0.3, 0.4]], [[1.2, -0.5], [-0.5, 0.6]]],
        weights=[1, 2],
    )


def points(path):
    """x_t `[19, 2]` and times `[19]` inside the path."""
    generator = torch.Generator().manual_seed(0)
    t = path.time(torch.linspace(0.02, 0.98, 19, dtype=torch.float64))
    return torch.randn(19, 2, generator=generator, dtype=torch.float64) * 2, t


def convert(path, predicted, wanted, coupling=None):
    return Conversion(interpolant=path, coupling=coupling or IndependentCoupling(), predicted=predicted, wanted=wanted)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize(("predicted", "wanted"), list(permutations(TARGETS, 2)), ids=name)
def test_posterior_means_become_one_another(path, predicted, wanted):
    """Without noise in the path in the path E[z] says nothing; every other prediction determines everything."""
    if predicted == PathNoise() and not path.needs_z:
        with pytest.raises(UndeterminedError, match=r"not determined on .* by PathNoise"):
            convert(path, predicted, wanted)
        return
    conversion, exact = convert(path, predicted, wanted), truth(path)
    x, t = points(path)
    conversion.check(t)
    found = conversion(path.at(t), x, exact.predict(x, t, UNCONDITIONAL, predicted))
    torch.testing.assert_close(found, exact.predict(x, t, UNCONDITIONAL, wanted), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("predicted", [Stack((Data(), PathNoise())), Stack((Velocity(), Score()))], ids=name)
@pytest.mark.parametrize("path", [PATHS["brownian"], PATHS["two-sided"]], ids=["brownian", "two-sided"])
def test_a_bridge_needs_two_predictions(path, predicted):
    """Three unknowns, and x_t one known: no single prediction will do for the velocity, two will."""
    single, wanted = predicted.targets[0], Velocity() if Data() in predicted.targets else Data()
    with pytest.raises(
        UndeterminedError, match=rf"^{name(wanted)}\[0\] is not determined.*by {name(single)}\[0\], x_t:"
    ):
        convert(path, single, wanted, PairedCoupling())
    conversion, exact = convert(path, predicted, wanted, PairedCoupling()), truth(path)
    x, t = points(path)
    found = conversion(path.at(t), x, exact.predict(x, t, UNCONDITIONAL, predicted))
    torch.testing.assert_close(found, exact.predict(x, t, UNCONDITIONAL, wanted), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["edm"]], ids=["linear", "edm"])
@pytest.mark.parametrize(("predicted", "wanted"), list(permutations((Velocity(), Data(), Noise()), 2)), ids=name)
def test_without_path_noise_any_coupling_will_do(path, predicted, wanted):
    x, t = points(path)
    exact = truth(path)
    found = convert(path, predicted, wanted, PairedCoupling())(
        path.at(t), x, exact.predict(x, t, UNCONDITIONAL, predicted)
    )
    torch.testing.assert_close(found, exact.predict(x, t, UNCONDITIONAL, wanted), rtol=1e-8, atol=1e-8)


def test_the_source_of_a_path_without_one_is_zero():
    """E[x0 | x_t] = a S with a = 0: known without any prediction."""
    path = MirrorInterpolant(gamma=BrownianGamma())
    x, t = points(path)
    found = convert(path, Data(), Noise())(path.at(t), x, torch.ones_like(x))
    assert torch.equal(found, truth(path).predict(x, t, UNCONDITIONAL, Noise()).abs())
    assert not found.any()


def test_data_from_velocity_at_the_source_of_the_linear_path():
    """x1 = x0 + v: the one-step map of flow matching. At the source x_t tells nothing of x1: E[x1] is the mean."""
    path, zero = PATHS["linear"], torch.zeros(19, dtype=torch.float64)
    x, v = torch.randn(2, 19, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for coupling in (IndependentCoupling(), PairedCoupling()):
        conversion = convert(path, Velocity(), Data(), coupling)
        conversion.check(zero)
        torch.testing.assert_close(conversion(path.at(zero), x, v), x + v)
    convert(path, Stack((Noise(), Velocity())), Data()).check(zero)  # x_t and x0 would do inside, but not here
    exact = truth(path)
    mean = torch.tensor([(0.5 - 2 * 1.5) / 3, (-1 + 2 * 0.3) / 3], dtype=torch.float64).expand(19, 2)
    torch.testing.assert_close(conversion(path.at(zero), x, exact.predict(x, zero, UNCONDITIONAL, Velocity())), mean)


@pytest.mark.parametrize("scale", [0.7, 1.0, math.sqrt(2)])
def test_data_from_velocity_at_the_source_of_the_brownian_path(scale):
    """E[x1 | x0] = x0 + v + (g g')(t_source) score(x0), the score of N(0, 1) being -x0.

    Sign and factor from transport, without conditional expectations: for x1 ~ N(m, s^2) the law of x_t is N(t m, d^2)
    with d^2 = (1 - t)^2 + t^2 s^2 + scale^2 t (1 - t), and the flow of v carries x_0 = x to t m + d(t) x; so
    v(x, 0) = m + d'(0) x. The data being independent of x0, E[x1 | x0] must come out as m.
    """
    m, s, h = 1.3, 0.6, 1e-6
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    zero = torch.zeros(7, dtype=torch.float64)

    def d(t):
        return math.sqrt((1 - t) ** 2 + t**2 * s**2 + scale**2 * t * (1 - t))

    v = m + (d(h) - d(-h)) / (2 * h) * x
    path = BrownianInterpolant(scale=scale)
    conversion = convert(path, Velocity(), Data())
    conversion.check(zero)
    torch.testing.assert_close(conversion(path.at(zero), x, v), torch.full_like(x, m), rtol=0, atol=1e-8)
    torch.testing.assert_close(x + v + scale**2 / 2 * -x, torch.full_like(x, m), rtol=0, atol=1e-8)
    exact = GaussianMixture(interpolant=path, means=[[m]], covariances=[[[s**2]]])
    torch.testing.assert_close(exact.predict(x, zero, UNCONDITIONAL, Velocity()), v, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("path", "end"), [("linear", 1.0), ("brownian", 1.0), ("edm", 0.0)])
def test_velocity_from_data_is_unbounded_at_the_data_end(path, end):
    """v = (E[x1] - x_t) / (1 - t) on the linear path, with similar poles on the others."""
    conversion = convert(PATHS[path], Data(), Velocity())
    inside = PATHS[path].time(torch.tensor([1.0, 0.5, 1e-6], dtype=torch.float64))
    conversion.check(inside)
    times = torch.cat([inside, torch.tensor([end], dtype=torch.float64)])
    with pytest.raises(UndeterminedError, match=rf"Velocity from Data is unbounded at time {end:.4g} of"):
        conversion.check(times)
    with pytest.raises(UndeterminedError, match="unbounded"):  # finite, but all rounding noise
        conversion.check(PATHS[path].time(torch.tensor([1e-9], dtype=torch.float64)))


def test_data_from_noise_is_unbounded_at_the_source_end():
    """x1 = (x_t - (1 - t) E[x0]) / t: noise prediction has no one-step map from t = 0."""
    conversion = convert(PATHS["linear"], Noise(), Data())
    conversion.check(torch.tensor([1e-6, 1.0], dtype=torch.float64))
    with pytest.raises(UndeterminedError, match="unbounded at time 0 of LinearInterpolant"):
        conversion.check(torch.zeros(1, dtype=torch.float64))


class Exact(Network):
    """A network that answers exactly."""

    def __init__(self, path, target):
        super().__init__()
        self.truth, self.target = truth(path), target

    def forward(self, x, time, condition):
        return self.truth.predict(x, time, condition, self.target)


def exact_model(path, target, source_conditioned=False):
    return MatchingModel(
        network=Exact(path, target),
        interpolant=path,
        coupling=IndependentCoupling(),
        target=target,
        preconditioning=NoPreconditioning(),
        source_conditioned=source_conditioned,
    )


@pytest.mark.parametrize("target", [*TARGETS[:5], Stack((Data(), PathNoise()))], ids=name)
def test_models_return_what_they_predict_as_predicted(target):
    """Bit by bit, and at the ends too, where a conversion of z or the score to itself is 0 / 0 or inf / inf."""
    path, ends = PATHS["two-sided"], torch.tensor([0.0, 1.0], dtype=torch.float64)
    model = exact_model(path, target)
    x, t = (tensor.float() for tensor in points(path))
    prediction = model.network(x, t, UNCONDITIONAL)
    assert torch.equal(model.predict(x, t, UNCONDITIONAL, target), prediction)
    for i, part in enumerate(getattr(target, "targets", ())):
        assert torch.equal(model.predict(x, t, UNCONDITIONAL, part), prediction[:, 2 * i : 2 * i + 2])
    model.check(target, ends)
    model.network.truth.predict = lambda x, *_: torch.cat([x] * target.out_multiplier, dim=1)
    assert torch.equal(
        model.predict(x[:2], ends, UNCONDITIONAL, target), torch.cat([x[:2]] * target.out_multiplier, dim=1)
    )


@pytest.mark.parametrize("target", [Velocity(), Data(), Stack((Data(), PathNoise()))], ids=name)
def test_models_convert_the_rest(target):
    path = PATHS["two-sided"]
    model, (x, t) = exact_model(path, target), (tensor.float() for tensor in points(path))
    found = model.predict(x, t, UNCONDITIONAL, Noise())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, truth(path).predict(x, t, UNCONDITIONAL, Noise()), rtol=1e-3, atol=1e-4)
    with pytest.raises(UndeterminedError, match="Noise from Data is unbounded at time 1 of"):
        exact_model(PATHS["linear"], Data()).check(Noise(), torch.tensor([0.5, 1.0], dtype=torch.float64))


class Affine(Preconditioning):
    def __call__(self, k, target):
        one = torch.ones_like(k.t)
        return Scalings(c_skip=(2 * one, 7 * one), c_out=(3 * k.t, 6 * k.t), c_in=4 * one, c_noise=5 * k.t)


def test_the_skip_of_a_preconditioned_stack_meets_every_row():
    """c_skip x + c_out F(c_in x, c_noise) with scalings for each row, its channels together: not channel by channel."""
    model = MatchingModel(
        network=lambda x, time, condition: torch.cat([x + time[:, None], -x], dim=1),
        interpolant=PATHS["two-sided"],
        coupling=IndependentCoupling(),
        target=Stack((Data(), Noise())),
        preconditioning=Affine(),
    )
    x, t = points(PATHS["two-sided"])
    s = t[:, None]
    torch.testing.assert_close(
        model(x, t, UNCONDITIONAL), torch.cat([2 * x + 3 * s * (4 * x + 5 * s), 7 * x - 6 * s * 4 * x], dim=1)
    )


def conversion(path, coupling, predicted, wanted):
    return Conversion(interpolant=path, coupling=coupling, predicted=predicted, wanted=wanted)


@pytest.mark.parametrize("predicted", [Velocity(), Data(), Noise()], ids=lambda t: type(t).__name__)
def test_without_path_noise_the_score_needs_a_gaussian_source(predicted):
    with pytest.raises(UndeterminedError, match="Score"):
        conversion(LinearInterpolant(), IndependentCoupling(source="data"), predicted, Score())


def test_with_the_score_a_bridge_of_velocity_determines_the_data_at_its_source():
    """E[x1|x0] = x0 + v + g g' score holds whatever the coupling, also exactly at the end."""
    both = conversion(
        BrownianInterpolant(scale=0.7), IndependentCoupling(source="data"), Stack((Velocity(), Score())), Data()
    )
    both.check(torch.tensor([0.0], dtype=torch.float64))
    k = both.interpolant.at(torch.zeros(1))
    x, v, s = torch.tensor([[0.3]]), torch.tensor([[1.1]]), torch.tensor([[-0.4]])
    torch.testing.assert_close(both(k, x, torch.cat([v, s], dim=1)), x + v + 0.7**2 / 2 * s)


@pytest.mark.parametrize("source_conditioned", [False, True])
def test_at_an_end_where_a_known_says_nothing_the_others_may_do(source_conditioned):
    """Between images, velocity and z determine the data inside; at the source z is unseen, and velocity alone does if
    g g' = 0 there. Given x0, x_t repeats it at the source, and the data are what is predicted: x1 - g z."""
    path = ExpressionInterpolant(a="1 - t", b="t * (1.5 - 0.5 * t)", g="0.4 * sin(pi * t)")
    predicted = ExpressionTarget(x1="1", z="-g") if source_conditioned else Stack((Velocity(), PathNoise()))
    found = Conversion(
        interpolant=path,
        coupling=PairedCoupling(),
        predicted=predicted,
        wanted=Data(),
        source_conditioned=source_conditioned,
    )
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found.check(ends)
    exact = GaussianPairs(path, *pairs(seed=2), source_conditioned=source_conditioned)
    t = torch.tensor([0.0, 1e-4, 0.5, 1.0], dtype=torch.float64)
    x0 = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.where(t[:, None] == 0, x0, 0.3 - x0)
    given = x0 if source_conditioned else None
    answer = found(path.at(t), x, exact.predict(x, t, UNCONDITIONAL, predicted, given), given)
    torch.testing.assert_close(answer, exact.predict(x, t, UNCONDITIONAL, Data(), given), rtol=1e-6, atol=1e-6)


def test_a_known_that_says_nothing_at_an_end_is_missed_where_it_matters():
    found = conversion(BrownianInterpolant(), PairedCoupling(), Stack((Velocity(), PathNoise())), Data())
    with pytest.raises(UndeterminedError, match=r"Data from Stack is unbounded at time 0 of BrownianInterpolant"):
        found.check(torch.zeros(1, dtype=torch.float64))


BRIDGES = {
    "brownian": BrownianInterpolant(scale=0.7),
    "I2SB": I2SBInterpolant(),
    "DDBM-VP": DDBMVPInterpolant(),
    "DDBM-VE": DDBMVEInterpolant(sigma_max=2.0),
}
ON_BRIDGES = (Velocity(), Data(), Noise(), Score(), PathNoise(), ForwardDrift(), VPrediction())


def given_the_source(path, predicted, wanted):
    return Conversion(
        interpolant=path, coupling=PairedCoupling(), predicted=predicted, wanted=wanted, source_conditioned=True
    )


@pytest.mark.parametrize("path", BRIDGES.values(), ids=BRIDGES.keys())
@pytest.mark.parametrize("wanted", [*ON_BRIDGES, Stack((Velocity(), Score()))], ids=name)
@pytest.mark.parametrize("predicted", [Data(), Velocity(), PathNoise(), Score()], ids=name)
def test_given_the_source_any_prediction_determines_all_of_a_bridge(path, predicted, wanted):
    """E[f | x_t, x0] of pairs that depend on each other, from the coefficients of the sampled target."""
    exact = GaussianPairs(path, *pairs(), source_conditioned=True)
    x, t = points(path)
    x0 = torch.randn(19, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    conversion = given_the_source(path, predicted, wanted)
    conversion.check(t)
    found = conversion(path.at(t), x, exact.sampled(x, t, predicted, x0), x0)
    torch.testing.assert_close(found, exact.sampled(x, t, wanted, x0), rtol=1e-7, atol=1e-7)


def test_the_source_itself_is_known_and_the_gaussian_relation_is_not_used_with_it():
    """Given x0 the score is that of p(x_t | x0): -E[z | x_t, x0] / g, whatever the law of x0."""
    path = BRIDGES["brownian"]
    x, t = points(path)
    x0 = torch.randn(19, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    known = Conversion(
        interpolant=path, coupling=IndependentCoupling(), predicted=Data(), wanted=Noise(), source_conditioned=True
    )
    torch.testing.assert_close(known(path.at(t), x, torch.zeros_like(x), x0), x0)
    score = Conversion(
        interpolant=path, coupling=IndependentCoupling(), predicted=Data(), wanted=Score(), source_conditioned=True
    )
    mean, covariance = torch.zeros(4), torch.diag(torch.tensor([1, 1, 0.3, 0.3], dtype=torch.float64))
    exact = GaussianPairs(path, mean, covariance, IndependentCoupling(), source_conditioned=True)
    found = score(path.at(t), x, exact.sampled(x, t, Data(), x0), x0)
    k = path.at(t)
    expected = -(x - k.a[:, None] * x0) / (k.g_squared + 0.3 * k.b**2)[:, None]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["edm"]], ids=["linear", "edm"])
def test_a_model_cannot_be_conditioned_on_the_source_of_a_path_without_path_noise(path):
    with pytest.raises(ValueError, match=r"g = 0, so that x_t and x0 already tell x1"):
        exact_model(path, Data(), source_conditioned=True)


COUPLINGS = {
    "minibatch OT": MinibatchOT(size=4),
    "two data sets": IndependentCoupling(source="data"),
    "pairs": PairedCoupling(),
}


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS.keys())
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_the_gaussian_relation_is_for_independent_gaussian_sources_alone(path, coupling):
    """With it E[x0] gives the score; a dependent Gaussian source, or images, do not know E[x0] = a S."""
    predicted = Stack((Data(), Noise())) if not path.needs_z else Noise()
    convert(path, predicted, Score(), IndependentCoupling())
    with pytest.raises(UndeterminedError, match=r"^Score\[0\] is not determined") as refusal:
        convert(path, predicted, Score(), coupling)
    assert "Gaussian source" not in str(refusal.value)


@pytest.mark.parametrize("predicted", [Velocity(), Data(), Noise()], ids=name)
def test_what_needs_no_such_relation_is_the_same_for_coupled_pairs(predicted):
    """On the linear path x_t and one prediction determine E[x0] and E[x1]; here x0 and x1 depend on each other."""
    path = PATHS["linear"]
    exact = GaussianPairs(path, *pairs(seed=2))
    x, t = points(path)
    for wanted in (Velocity(), Data(), Noise()):
        found = convert(path, predicted, wanted, MinibatchOT(size=4))(path.at(t), x, exact.sampled(x, t, predicted))
        torch.testing.assert_close(found, exact.sampled(x, t, wanted), rtol=1e-8, atol=1e-8)


def test_from_the_data_alone_a_bridge_knows_its_own_drift():
    """The velocity is refused, the drift of the bridge's own diffusion is not (bridge matching, I2SB)."""
    for path in BRIDGES.values():
        exact = GaussianPairs(path, *pairs(seed=3))
        x, t = points(path)
        found = convert(path, Data(), ForwardDrift(), PairedCoupling())(path.at(t), x, exact.sampled(x, t, Data()))
        torch.testing.assert_close(found, exact.sampled(x, t, ForwardDrift()), rtol=1e-8, atol=1e-8)
        with pytest.raises(UndeterminedError, match=r"Velocity\[0\] is not determined"):
            convert(path, Data(), Velocity(), PairedCoupling())


def test_models_are_asked_with_their_source():
    """The network is shown the scaled x_t and, as it is, x0; what it does not predict is converted with x0."""
    path, seen = BRIDGES["brownian"], []
    exact = GaussianPairs(path, *pairs(), source_conditioned=True)

    class Watched(Network):
        def forward(self, x, time, condition):
            seen.append(x)
            x_t, x0 = x.chunk(2, dim=1)
            return exact.predict(x_t, time, condition, Data(), x0)

    model = MatchingModel(
        network=Watched(),
        interpolant=path,
        coupling=PairedCoupling(),
        target=Data(),
        preconditioning=NoPreconditioning(),
        source_conditioned=True,
    )
    x, t = points(path)
    x0 = torch.randn(19, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for target in (Data(), Velocity(), Score()):
        torch.testing.assert_close(
            model.predict(x, t, UNCONDITIONAL, target, x0),
            exact.predict(x, t, UNCONDITIONAL, target, x0),
            rtol=1e-7,
            atol=1e-7,
        )
    assert torch.equal(seen[0], torch.cat([x, x0], dim=1))
    with pytest.raises(AssertionError, match="asked with its x0"):
        model.predict(x, t, UNCONDITIONAL, Data())
