import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from realuid.evaluation.frechet import Frechet, frechet_distance
from realuid.evaluation.moments import Moments


def features(count, seed, width=6, mean=1.0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mix * scale + mean


def measured(one, other, parts=(1, 1)):
    metric = Frechet()
    for given, pieces, real in ((one, parts[0], True), (other, parts[1], False)):
        rows = torch.arange(len(given))
        for values, numbers in zip(given.tensor_split(pieces), rows.tensor_split(pieces), strict=True):
            metric.update({"features": values}, numbers, real=real)
    return metric.compute()["frechet"]


def closed_form(one, other):
    one, other = one.double().numpy(), other.double().numpy()
    s1, s2 = np.cov(one.T), np.cov(other.T)
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real))


def eigen_route(one, other):
    """By two symmetric eigendecompositions in float64."""
    one, other = one.double(), other.double()
    s1, s2 = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(s1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    return float((one.mean(0) - other.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * cross)


@pytest.mark.parametrize("parts", [(1, 1), (7, 3), (300, 411)])
def test_closed_form_of_scipy(parts):
    one, other = features(300, 0), features(411, 1, mean=2.0, scale=1.0)
    expected = closed_form(one, other)
    assert expected > 1
    assert measured(one, other, parts) == pytest.approx(expected, rel=1e-10)


def test_fewer_images_than_features():
    one, other = features(20, 0, width=64), features(31, 1, width=64, mean=1.2)
    assert measured(one, other) == pytest.approx(eigen_route(one, other), rel=1e-6)
    assert measured(one, one.flip(0)) < 1e-9 * float(torch.cov(one.double().T).trace())


def test_agrees_with_torchmetrics_on_digits(digits, classifier):
    class Given(torch.nn.Module):
        num_features = 64

        def forward(self, images):
            return classifier(images).double()

    torchmetrics = FrechetInceptionDistance(feature=Given(), normalize=False)
    torchmetrics.update(digits.images[:900], real=True)
    torchmetrics.update(digits.images[900:], real=False)
    mine = measured(classifier(digits.images[:900]), classifier(digits.images[900:]))
    assert mine == pytest.approx(torchmetrics.compute().item(), rel=1e-9)


def test_a_shift_costs_its_square_and_equal_sets_nothing():
    one = features(300, 0)
    assert measured(one, one + 3) == pytest.approx(6 * 9, rel=1e-6)
    assert 0 <= measured(one, one.flip(0)) < 1e-10


def test_large_means_cost_no_digits():
    one, other = features(500, 0).double(), features(500, 1).double()
    assert measured(one + 1000, other + 1000) == pytest.approx(measured(one, other), rel=1e-6)


def test_padding_counts_for_nothing():
    one, other = features(50, 0), features(60, 1)
    metric = Frechet()
    metric.update({"features": one}, torch.arange(50), real=True)
    padded = torch.cat([other, torch.full((4, 6), 1e6)])
    metric.update({"features": padded}, torch.cat([torch.arange(60), torch.full((4,), -1)]), real=False)
    assert metric.compute()["frechet"] == pytest.approx(measured(one, other), rel=1e-12)


def test_reset_keeps_the_real_images():
    one, other, third = features(50, 0), features(60, 1), features(70, 2)
    metric = Frechet()
    metric.update({"features": one}, torch.arange(50), real=True)
    metric.update({"features": third}, torch.arange(70), real=False)
    metric.compute()
    metric.reset()
    metric.update({"features": other}, torch.arange(60), real=False)
    assert metric.compute()["frechet"] == measured(one, other)


def test_given_moments_stand_for_the_real_images():
    one, other = features(50, 0), features(60, 1)
    metric = Frechet()
    metric.refer_to(Moments.of(one))
    metric.update({"features": other}, torch.arange(60), real=False)
    assert metric.compute()["frechet"] == measured(one, other)
    assert frechet_distance(Moments.of(other), Moments.of(one)) == measured(one, other)


def test_fewer_than_two_images_are_refused():
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        measured(features(10, 0), features(1, 1))
    with pytest.raises(ValueError, match="at least 2 images, got 0"):
        measured(features(0, 0), features(10, 1))
