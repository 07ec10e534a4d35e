import math

import numpy as np
import pytest
import torch
from stand_ins import Given, Pixels

from realuid.data.pixels import to_float
from realuid.errors import DataError
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import Frechet, Moments, frechet_distance
from realuid.evaluation.inception_score import InceptionScore
from realuid.evaluation.inputs import GaussianInputs
from realuid.evaluation.kernel import KernelDistance
from realuid.evaluation.neighbours import DensityCoverage, Memorisation, PrecisionRecall
from realuid.evaluation.reference import write_reference


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
    noise = on_digits.frechet(on_digits.generate(lambda x0, labels, noise: x0, GaussianInputs(digits, 0)))
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
    assert 0.5 * expected < evaluator.yardsticks()["halves_frechet"] < 2 * expected


def test_agreement(on_digits, digits):
    assert on_digits.agreement(digits.images, digits.labels) > 0.97
    assert on_digits.agreement(digits.images, (digits.labels + 1) % 10) < 0.03
    with pytest.raises(NotImplementedError, match="pixels"):
        Evaluator(features=Pixels()).agreement(digits.images, digits.labels)


def test_generated_images_go_with_the_labels(on_digits, digits):
    templates = torch.stack([digits.images[digits.labels == k][0] for k in range(10)])
    inputs = GaussianInputs(digits, 0)
    images = on_digits.generate(lambda x0, labels, noise: to_float(templates)[labels], inputs)
    assert images.shape == (1000, 1, 8, 8)
    assert on_digits.agreement(images, inputs.labels(0, 1000)) > 0.9


def test_frechet_is_against_all_real_images(on_digits, digits, classifier):
    some = digits.images[:300]
    expected = frechet_distance(Moments.of(classifier(some)), Moments.of(classifier(digits.images)))
    assert on_digits.frechet(some) == pytest.approx(expected, rel=1e-9)
    assert on_digits.judge(some) == {"frechet": pytest.approx(expected, rel=1e-9)}


def test_the_batch_changes_rounding_only(on_digits, digits, classifier):
    other = Evaluator(features=classifier, count=1000, batch=77)
    other.prepare(digits, "cpu")
    inputs = GaussianInputs(digits, 0)
    made = other.generate(lambda x0, labels, noise: x0, inputs)
    assert torch.equal(made, on_digits.generate(lambda x0, labels, noise: x0, inputs))
    assert other.frechet(digits.images[:400]) == pytest.approx(on_digits.frechet(digits.images[:400]), rel=1e-4)


def test_stamp(on_digits, classifier):
    assert on_digits.stamp(ema=0.999, sampler="one step") == {
        "network": "small-classifier",
        "network_sha256": classifier.checksum,
        "resize": "none",
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
    for options, message in (
        ({"count": 1}, "count >= 2"),
        ({"quick_count": 6000}, "at most count, got 6000"),
        ({"metrics": ()}, "names no metric"),
        ({"metrics": (Frechet(), Frechet())}, "frechet would be measured twice"),
    ):
        with pytest.raises(ValueError, match=message):
            Evaluator(features=classifier, **options)
    with pytest.raises(ValueError, match="InceptionScore reads class logits, which pixels does not give"):
        Evaluator(features=Pixels(), metrics=(InceptionScore(),))


def small_kernel_distance():
    return KernelDistance(subsets=10, size=200)


small_kernel_distance.figures = KernelDistance.figures
ALL = (Frechet, small_kernel_distance, InceptionScore, PrecisionRecall, DensityCoverage, Memorisation)


def test_all_metrics_of_one_extraction(digits, classifier, tmp_path):
    evaluator = Evaluator(features=classifier, metrics=[metric() for metric in ALL], cache=str(tmp_path))
    evaluator.prepare(digits, "cpu")
    figures = evaluator.judge(digits.images[:500], labels=digits.labels[:500])
    assert set(figures) == {name for metric in ALL for name in metric.figures} | {"agreement"}
    assert figures["frechet"] == pytest.approx(evaluator.frechet(digits.images[:500]))
    assert figures["memorised"] == 1  # they are the training images
    assert figures["agreement"] == pytest.approx(evaluator.agreement(digits.images[:500], digits.labels[:500]))
    assert evaluator.judge(digits.images[:500], ranking=True) == {"frechet": figures["frechet"]}
    sticks = evaluator.yardsticks()
    assert set(sticks) == {f"{whose}_{name}" for whose in ("halves", "pixel_gaussian") for name in ("frechet", "kid")}
    assert abs(sticks["halves_kid"]) < 0.1 * sticks["pixel_gaussian_kid"]


def test_a_second_batch_of_images_meets_the_same_reference(digits, classifier):
    evaluator = Evaluator(features=classifier, metrics=[metric() for metric in ALL])
    evaluator.prepare(digits, "cpu")
    first = evaluator.judge(digits.images[:300])
    evaluator.judge(digits.images[500:900].flip(2))
    assert evaluator.judge(digits.images[:300]) == first


def test_features_of_real_images_are_extracted_once_and_kept(tmp_path):
    first, second = Pixels(), Pixels()
    for network in (first, second):
        metrics = [Frechet(), KernelDistance(subsets=3, size=50)]
        evaluator = Evaluator(features=network, metrics=metrics, cache=str(tmp_path))
        evaluator.prepare(two_points(), "cpu")
        evaluator.judge(two_points().images[:100])
        evaluator.yardsticks()
    assert first.seen == 2000 + 100 + 5000
    assert second.seen == 100 + 5000
    (kept,) = tmp_path.glob("features-*.npz")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    third = Pixels()
    Evaluator(features=third, cache=str(tmp_path)).prepare(two_points(), "cpu")
    assert third.seen == 2000


def test_a_reference_file_stands_for_the_data(tmp_path):
    data = two_points()
    own = Evaluator(features=Pixels())
    own.prepare(data, "cpu")
    stamp = {**own.features.stamp(), "reference": data.checksum}
    write_reference(tmp_path / "ref.npz", own.moments(), len(data), stamp)
    other = Evaluator(features=Pixels(), reference=str(tmp_path / "ref.npz"))
    other.prepare(two_points(100), "cpu")
    images = data.images[:300]
    assert other.judge(images)["frechet"] == pytest.approx(own.judge(images)["frechet"], rel=1e-12)
    assert other.stamp()["reference"] != data.checksum
    assert other.stamp()["reference_count"] == 2000
    assert "halves_frechet" not in other.yardsticks()


def test_metrics_of_single_images_refuse_mean_and_covariance(tmp_path):
    write_reference(tmp_path / "ref.npz", Moments.of(two_points().images.flatten(1)), 2000, Pixels().stamp())
    evaluator = Evaluator(features=Pixels(), metrics=[PrecisionRecall()], reference=str(tmp_path / "ref.npz"))
    with pytest.raises(DataError, match="mean and covariance alone: PrecisionRecall needs real images"):
        evaluator.prepare(two_points(), "cpu")


def test_images_in_a_reference_file_serve_all_metrics(tmp_path):
    data = two_points()
    np.savez(tmp_path / "adm.npz", arr_0=data.images.permute(0, 2, 3, 1).numpy())
    metrics = [Frechet(), PrecisionRecall()]
    file = Evaluator(features=Pixels(), metrics=metrics, reference=str(tmp_path / "adm.npz"))
    file.prepare(two_points(100), "cpu")
    own = Evaluator(features=Pixels(), metrics=[Frechet(), PrecisionRecall()])
    own.prepare(data, "cpu")
    images = data.images[:200] + 3
    assert file.judge(images) == pytest.approx(own.judge(images))
    assert file.stamp()["reference_count"] == 2000


def test_pairs_are_compared_with_their_own_real_image():
    data = two_points(50)
    evaluator = Evaluator(features=Pixels(), count=50, batch=7)
    evaluator.prepare(Given(data.images, data.labels, "paired", sources=data.images), "cpu")
    assert evaluator.judge(data.images + 2, paired=True)["psnr"] == pytest.approx(10 * math.log10(255**2 / 4))
    assert evaluator.judge(data.images.roll(1, 0), paired=True)["psnr"] < 20
    assert "psnr" not in evaluator.judge(data.images)
