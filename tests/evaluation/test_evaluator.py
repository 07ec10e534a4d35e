import pytest
import torch
from stand_ins import Given, Pixels

from realuid.data.pixels import to_float
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import frechet_distance


@pytest.fixture(scope="module")
def on_digits(digits, classifier):
    evaluator = Evaluator(features=classifier, count=1000)
    evaluator.prepare(digits, "cpu")
    return evaluator


def two_points(count=2000):
    """Half of the images dark, half light, with a little noise: far from a Gaussian, and far from the ends."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    images = 100 + 50 * labels[:, None, None, None] + 5 * torch.randn(count, 1, 2, 2, generator=generator)
    return Given(images.round().to(torch.uint8), labels, checksum="two points")


def test_yardsticks_in_order_on_digits(on_digits, digits):
    sticks = on_digits.yardsticks()
    noise = on_digits.frechet(on_digits.generate(lambda z, labels: z))
    assert 0 < sticks["halves_frechet"] < 1
    assert 5 * sticks["halves_frechet"] < sticks["pixel_gaussian_frechet"] < noise
    assert on_digits.frechet(digits.images) < 1e-8
    assert sticks == on_digits.yardsticks()


def test_pixel_gaussian_has_the_first_two_moments_of_the_data():
    # In the features "pixels" two moments are all a Frechet distance sees, so only sampling and clipping remain.
    data = two_points()
    evaluator = Evaluator(features=Pixels(), count=4000)
    evaluator.prepare(data, "cpu")
    samples = evaluator._pixel_gaussian()
    assert samples.shape == (4000, 1, 2, 2)
    assert samples.dtype == torch.uint8
    total_variance = torch.cov(data.images.flatten(1).double().T).trace()
    assert evaluator.yardsticks()["pixel_gaussian_frechet"] < 0.01 * total_variance


def test_halves_are_at_twice_the_noise_of_a_mean():
    # Between means of two halves of n/2 the expected squared distance is 4 tr(S) / n; covariances add a little.
    data = two_points()
    evaluator = Evaluator(features=Pixels())
    evaluator.prepare(data, "cpu")
    expected = 4 * torch.cov(data.images.flatten(1).double().T).trace().item() / len(data)
    assert 0.5 * expected < evaluator.yardsticks(splits=100)["halves_frechet"] < 2 * expected


def test_agreement(on_digits, digits):
    assert on_digits.agreement(digits.images, digits.labels) > 0.97
    assert on_digits.agreement(digits.images, (digits.labels + 1) % 10) < 0.03
    with pytest.raises(NotImplementedError, match="pixels"):
        Evaluator(features=Pixels()).agreement(digits.images, digits.labels)


def test_generated_images_go_with_the_labels(on_digits, digits):
    templates = torch.stack([digits.images[digits.labels == k][0] for k in range(10)])
    images = on_digits.generate(lambda z, labels: to_float(templates)[labels])
    assert images.shape == (1000, 1, 8, 8)
    assert on_digits.agreement(images, on_digits.labels) > 0.9


def test_frechet_is_against_all_real_images(on_digits, digits, classifier):
    some = digits.images[:300]
    assert on_digits.frechet(some) == frechet_distance(classifier, digits.images, some)


def test_the_batch_changes_rounding_only(on_digits, digits, classifier):
    other = Evaluator(features=classifier, count=1000, batch=77)
    other.prepare(digits, "cpu")
    assert torch.equal(other.generate(lambda z, labels: z), on_digits.generate(lambda z, labels: z))
    assert other.frechet(digits.images[:400]) == pytest.approx(on_digits.frechet(digits.images[:400]), rel=1e-4)


def test_stamp(on_digits, classifier):
    assert on_digits.stamp(ema=0.999, sampler="one step") == {
        "network": "small-classifier",
        "network_sha256": classifier.checksum,
        "accuracy": classifier.accuracy,
        "count": 1000,
        "seed": 0,
        "reference": "digits",
        "reference_count": 1797,
        "ema": 0.999,
        "sampler": "one step",
    }
    with pytest.raises(TypeError, match="count"):
        on_digits.stamp(count=7)


def test_settings_that_measure_nothing_are_refused(classifier):
    with pytest.raises(ValueError, match="count"):
        Evaluator(features=classifier, count=1)
