"""Metrics beside other implementations of their formulas, on the same features."""

import itertools
import math

import numpy as np
import pytest
import torch

from realuid.evaluation.inception_score import InceptionScore
from realuid.evaluation.kernel import KernelDistance, squared_discrepancy
from realuid.evaluation.neighbours import DensityCoverage, Memorisation, PrecisionRecall, nearest


def features(count, seed, width=5, mean=0.0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + mean


def measured(metric, one, other, order=None):
    order = torch.arange(len(other)) if order is None else order
    show(metric, one, torch.arange(len(one)), real=True)
    show(metric, other[order], order, real=False)
    return metric.compute()


def show(metric, tensor, rows, *, real):
    """Shows a metric that reads one thing some rows of it."""
    (name,) = metric.reads
    metric.update({name: tensor}, rows, real=real)


# The kernel distance


def double_sum(x, y):
    """The definition, pair by pair."""
    d = x.shape[1]

    def k(a, b):
        return (float(a @ b) / d + 1) ** 3

    xx = [k(a, b) for a, b in itertools.permutations(x, 2)]
    yy = [k(a, b) for a, b in itertools.permutations(y, 2)]
    xy = [k(a, b) for a in x for b in y]
    return sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)


def test_discrepancy_is_the_double_sum():
    x, y = features(9, 0).double(), features(7, 1, mean=0.5).double()
    assert squared_discrepancy(x, y) == pytest.approx(double_sum(x, y), abs=1e-12)


def cleanfid(x, y):
    """clean-fid's estimate of one subset, rewritten: https://github.com/GaParmar/clean-fid, `kernel_distance`."""
    n, m = x.shape[1], len(x)
    a = (x @ x.T / n + 1) ** 3 + (y @ y.T / n + 1) ** 3
    b = (x @ y.T / n + 1) ** 3
    return ((a.sum() - np.diag(a).sum()) / (m - 1) - b.sum() * 2 / m) / m


def test_discrepancy_is_clean_fids():
    x, y = features(50, 0).double(), features(50, 1, mean=0.5).double()
    assert squared_discrepancy(x, y) == pytest.approx(float(cleanfid(x.numpy(), y.numpy())), abs=1e-12)


def test_discrepancy_is_torch_fidelitys():
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = features(40, 0).double(), features(40, 1, mean=0.5).double()
    settings = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    k_11, k_12, k_22 = (kid.kernel_poly(a.numpy(), b.numpy(), **settings) for a, b in ((x, x), (x, y), (y, y)))
    theirs = kid.mmd2(k_11, k_12, k_22, unit_diagonal=False, mmd_est="unbiased")
    assert squared_discrepancy(x, y) == pytest.approx(float(theirs), abs=1e-9)


def test_one_subset_of_everything_is_the_whole_estimate():
    x, y = features(60, 0), features(60, 1, mean=0.3)
    found = measured(KernelDistance(subsets=2, size=100), x, y)
    assert found["kid"] == pytest.approx(squared_discrepancy(x.double(), y.double()), abs=1e-9)


def test_kernel_distance_between_halves_is_zero_within_its_error():
    for seed in range(5):
        found = measured(KernelDistance(subsets=50, size=200), features(2000, seed), features(2000, seed + 100))
        assert abs(found["kid"]) < 4 * found["kid_error"]
    shifted = measured(KernelDistance(subsets=50, size=200), features(2000, 0), features(2000, 1, mean=0.2))
    assert shifted["kid"] > 5 * shifted["kid_error"]


def told_and_true(real, generated, size, *, mean=0.0, width=5, subsets=20, times=60):
    """The mean of `kid_error` and the standard deviation of `kid`, over features drawn anew each time."""
    metric = KernelDistance(subsets=subsets, size=size)
    found = [
        metric.judge(features(real, 2 * n, width), features(generated, 2 * n + 1, width, mean)) for n in range(times)
    ]
    return np.mean([one["kid_error"] for one in found]), np.std([one["kid"] for one in found], ddof=1)


@pytest.mark.parametrize(
    ("real", "generated", "size", "options"),
    [
        (100, 100, 1000, {}),  # both sets fit one subset
        (100, 100, 100, {"width": 64}),
        (150, 60, 1000, {}),  # one does
        pytest.param(300, 90, 100, {"width": 64}, marks=pytest.mark.slow),
        pytest.param(500, 100, 100, {"mean": 0.3}, marks=pytest.mark.slow),
        pytest.param(100, 100, 1000, {"mean": 0.3}, marks=pytest.mark.slow),
        (400, 400, 50, {"subsets": 100}),  # none does
        (20, 12, 1000, {}),
    ],
)
def test_its_error_is_the_spread_over_repetitions(real, generated, size, options):
    told, true = told_and_true(real, generated, size, **options)
    assert 0.75 < told / true < 1.35


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_handful_of_images_has_an_error_all_the_same(count):
    found = KernelDistance().judge(features(count, 0), features(count, 1))
    assert math.isfinite(found["kid"])
    assert 0 <= found["kid_error"] < math.inf


def test_draws_are_its_own_and_seeded():
    x, y = features(300, 0), features(300, 1)
    one, again, other = (measured(KernelDistance(subsets=5, size=50, seed=s), x, y)["kid"] for s in (0, 0, 1))
    assert one == again != other


# Inception score


def test_score_of_certain_and_of_blind_classifiers():
    certain = 1e4 * torch.eye(10).repeat(30, 1)
    assert measured(InceptionScore(splits=3), certain, certain)["inception_score"] == pytest.approx(10)
    blind = torch.zeros(300, 10)
    assert measured(InceptionScore(), blind, blind)["inception_score"] == pytest.approx(1)


def test_score_is_the_published_formula():
    logits = 2 * features(200, 0, width=7)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    parts = np.split(p, 10)
    scores = [np.exp(np.mean(np.sum(part * (np.log(part) - np.log(part.mean(0))), 1))) for part in parts]
    found = measured(InceptionScore(), logits, logits)
    assert found["inception_score"] == pytest.approx(np.mean(scores), rel=1e-10)
    assert found["inception_score_spread"] == pytest.approx(np.std(scores), rel=1e-10)


# Neighbours


def brute(real, generated, k):
    """Balls by sorting all distances, in numpy and without blocks."""

    def gap(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    radius_real = np.sort(gap(real, real), axis=1)[:, k]
    radius_made = np.sort(gap(generated, generated), axis=1)[:, k]
    between = gap(real, generated)
    return {
        "precision": (between <= radius_real[:, None]).any(0).mean(),
        "recall": (between <= radius_made[None]).any(1).mean(),
        "density": (between <= radius_real[:, None]).sum(0).mean() / k,
        "coverage": (between <= radius_real[:, None]).any(1).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_balls(k):
    real, generated = features(130, 0), features(90, 1, mean=0.7)
    expected = brute(real.double().numpy(), generated.double().numpy(), k)
    found = measured(PrecisionRecall(k=k), real, generated) | measured(DensityCoverage(k=k), real, generated)
    assert found == pytest.approx(expected, abs=1e-12)
    assert all(0 < value < 1 for value in found.values())


def test_balls_are_those_of_prdc():
    prdc = pytest.importorskip("prdc")
    real, generated = features(130, 0), features(90, 1, mean=0.7)
    theirs = prdc.compute_prdc(real.double().numpy(), generated.double().numpy(), nearest_k=5)
    found = measured(PrecisionRecall(k=5), real, generated) | measured(DensityCoverage(k=5), real, generated)
    assert found == pytest.approx({name: float(value) for name, value in theirs.items()}, abs=1e-12)


def test_blocks_change_no_neighbour():
    x, y = features(50, 0), features(70, 1)
    assert torch.allclose(nearest(x, y, 3, batch=7), nearest(x, y, 3), rtol=1e-12)
    assert torch.allclose(nearest(y, y, 3, skip_self=True, batch=13), nearest(y, y, 3, skip_self=True), rtol=1e-12)
    assert torch.allclose(nearest(x, y, 3), torch.cdist(x.double(), y.double()).sort(1).values[:, :3])


def test_copies_are_found_and_new_samples_are_not():
    real, new = features(800, 0, width=20), features(400, 1, width=20)
    fresh = measured(Memorisation(), real, new)
    assert fresh["memorised"] == 0
    assert fresh["nearest_ratio"] == pytest.approx(1, abs=0.1)
    copies = torch.cat([real[:100] + 1e-4, new[:300]])
    assert measured(Memorisation(), real, copies)["memorised"] == pytest.approx(0.25)
    all_copied = measured(Memorisation(), real, real[:400] + 1e-4)
    assert all_copied["memorised"] == 1
    assert all_copied["nearest_ratio"] < 1e-3
    assert measured(Memorisation(), torch.cat([real, real[:200] + 1e-4]), new)["memorised_real"] == pytest.approx(0.4)


def test_a_limit_chooses_the_same_images_whatever_their_order():
    real, generated = features(300, 0), features(400, 1)
    shuffled = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    for metric in (DensityCoverage, Memorisation):
        one = measured(metric(limit=100), real, generated)
        assert one == measured(metric(limit=100), real, generated, shuffled)
        assert one != measured(metric(limit=100, seed=1), real, generated)


# What all share

METRICS = [KernelDistance(subsets=3, size=20), InceptionScore(), PrecisionRecall(), DensityCoverage(), Memorisation()]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
def test_cut_order_and_padding_change_nothing(metric):
    real, generated = features(40, 0), features(50, 1)
    metric = type(metric)(**metric.settings())
    expected = measured(metric, real, generated)
    assert set(expected) == set(metric.names)
    assert all(math.isfinite(value) for value in expected.values())
    metric.reset()
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for part in rows.split(7):
        padded = torch.cat([generated[part], torch.full((2, 5), 9.0)])
        show(metric, padded, torch.cat([part, torch.full((2,), -1)]), real=False)
    assert metric.compute() == expected


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
def test_an_image_given_twice_is_an_error(metric):
    metric = type(metric)(**metric.settings())
    show(metric, features(40, 0), torch.arange(40), real=True)
    show(metric, features(40, 1), torch.arange(40), real=False)
    show(metric, features(3, 1), torch.tensor([40, 17, 41]), real=False)
    with pytest.raises(ValueError, match="generated images: number 17 was given twice"):
        metric.compute()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KernelDistance(subsets=1), "subsets and size of at least 2, got 1"),
        (lambda: KernelDistance(size=1), "got 100 and 1"),
        (lambda: InceptionScore(splits=0), "splits must be at least 1"),
        (lambda: PrecisionRecall(k=0), "PrecisionRecall needs k >= 1"),
        (lambda: DensityCoverage(limit=5), "limit > k"),
        (lambda: Memorisation(limit=1), "limit must be at least 2"),
        (lambda: measured(PrecisionRecall(), features(3, 0), features(9, 1)), "real images: at least 4 are needed"),
        (lambda: PrecisionRecall().judge(features(3, 0), features(9, 1)), "more than k = 3 images, got 3"),
        (lambda: measured(Memorisation(), features(2, 0), features(9, 1)), "real images: at least 3 are needed, got 2"),
        (lambda: measured(KernelDistance(), features(5, 0), features(1, 1)), "generated images: at least 2"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
