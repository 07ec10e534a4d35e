import math

import numpy as np
import pytest
import torch

from realuid.data.pixels import to_float
from realuid.evaluation.baselines import gaussian_images
from realuid.evaluation.classwise import ClasswiseFrechet
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import Frechet, frechet_distance
from realuid.evaluation.inception_score import InceptionScore
from realuid.evaluation.inputs import GaussianInputs
from realuid.evaluation.kernel import KernelDistance
from realuid.evaluation.label_accuracy import LabelAccuracy
from realuid.evaluation.metric import Metric
from realuid.evaluation.moments import Moments
from realuid.evaluation.neighbours import DensityCoverage, Memorisation, PrecisionRecall
from realuid.evaluation.reference import write_reference
from realuid.evaluation.small_classifier import SmallClassifier
from realuid.utils.errors import DataError
from tests.evaluation.stand_ins import Given, Pixels


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


def judge(evaluator, images, labels=None, metrics=None):
    """The values of given images, and of their labels where some are given."""
    metrics = metrics or evaluator.chosen(conditioned=labels is not None)
    samples = {"images": images, "features": evaluator.extract(images)}
    return evaluator.measure(metrics, samples if labels is None else {**samples, "label": labels})


def test_baselines_in_order_on_digits(on_digits, digits):
    baselines = on_digits.baselines()
    noise = on_digits.generate(lambda x0, told, noise: x0, [GaussianInputs(digits, 0)], on_digits.metrics)
    assert 0 < baselines["halves_frechet"] < 1
    of_noise = on_digits.measure(on_digits.metrics, noise)["frechet"]
    assert 5 * baselines["halves_frechet"] < baselines["pixel_gaussian_frechet"] < of_noise
    assert judge(on_digits, digits.images)["frechet"] < 1e-8
    assert baselines == on_digits.baselines()


def test_pixel_gaussian_has_the_first_two_moments_of_the_data():
    # In the features "pixels" two moments are all a Frechet distance sees, so only sampling and clipping remain.
    data = two_points()
    evaluator = Evaluator(features=Pixels(), count=4000)
    evaluator.prepare(data, "cpu")
    samples = gaussian_images(data.images.split(300), data.shape, 4000, 0, "cpu")
    assert samples.shape == (4000, 1, 2, 2)
    assert samples.dtype == torch.uint8
    total_variance = torch.cov(data.images.flatten(1).double().T).trace()
    assert evaluator.baselines()["pixel_gaussian_frechet"] < 0.01 * total_variance


def test_halves_are_at_twice_the_noise_of_a_mean():
    # Between means of two halves of n/2 the expected squared distance is 4 tr(S) / n; covariances add a little.
    data = two_points()
    evaluator = Evaluator(features=Pixels())
    evaluator.prepare(data, "cpu")
    expected = 4 * torch.cov(data.images.flatten(1).double().T).trace().item() / len(data)
    assert 0.5 * expected < evaluator.baselines()["halves_frechet"] < 2 * expected


def test_label_accuracy_is_measured_where_labels_are_read(on_digits, digits):
    assert judge(on_digits, digits.images, digits.labels)["label_accuracy"] > 0.97
    assert judge(on_digits, digits.images, (digits.labels + 1) % 10)["label_accuracy"] < 0.03
    assert "label_accuracy" not in judge(on_digits, digits.images)
    assert [type(metric) for metric in Evaluator(features=Pixels()).metrics] == [Frechet]


def test_label_accuracy_is_bound_once(classifier):
    bound = Evaluator(features=classifier, metrics=[LabelAccuracy(), Frechet()])
    assert [type(metric) for metric in bound.metrics] == [LabelAccuracy, Frechet]
    assert bound.ranking.higher_is_better


def test_generated_images_go_with_the_labels(on_digits, digits):
    templates = torch.stack([digits.images[digits.labels == k][0] for k in range(10)])

    def template(x0, told, noise):
        return to_float(templates)[told["label"]]

    samples = on_digits.generate(template, [GaussianInputs(digits, 0)], on_digits.metrics)
    assert set(samples) == {"features", "label"}, "no metric reads images"
    assert samples["features"].shape == (1000, 64)
    assert on_digits.measure(on_digits.metrics, samples)["label_accuracy"] > 0.9


def test_frechet_is_against_all_real_images(on_digits, digits, classifier):
    some = digits.images[:300]
    expected = frechet_distance(Moments.of(classifier(some)), Moments.of(classifier(digits.images)))
    assert judge(on_digits, some) == {"frechet": pytest.approx(expected, rel=1e-9)}


def test_the_batch_changes_rounding_only(on_digits, digits, classifier):
    other = Evaluator(features=classifier, count=1000, batch=77)
    other.prepare(digits, "cpu")
    inputs = GaussianInputs(digits, 0)
    one, two = (
        evaluator.generate(lambda x0, told, noise: x0, [inputs], evaluator.metrics, pairs=True)
        for evaluator in (on_digits, other)
    )
    assert torch.equal(one["images"], two["images"])
    assert torch.equal(one["label"], two["label"])
    assert judge(other, digits.images[:400])["frechet"] == pytest.approx(
        judge(on_digits, digits.images[:400])["frechet"], rel=1e-4
    )


def test_provenance(on_digits, classifier):
    assert on_digits.provenance(ema=0.999, sampler="one step") == {
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
        on_digits.provenance(count=7)


def test_settings_that_measure_nothing_are_refused(classifier):
    for options, message in (
        ({"count": 1}, "count >= 2"),
        ({"quick_count": 6000}, "at most count, got 6000"),
        ({"metrics": ()}, "names no metric"),
        ({"metrics": (Frechet(), Frechet())}, "frechet would be measured twice"),
    ):
        with pytest.raises(ValueError, match=message):
            Evaluator(features=classifier, **options)
    with pytest.raises(ValueError, match="InceptionScore reads logits, which pixels does not give"):
        Evaluator(features=Pixels(), metrics=(InceptionScore(),))


ALL = (
    Frechet,
    lambda: KernelDistance(subsets=10, size=200),
    InceptionScore,
    PrecisionRecall,
    DensityCoverage,
    Memorisation,
    ClasswiseFrechet,
)
DISTANCES = ("frechet", "kid", "classwise_frechet")


def test_all_metrics_of_one_extraction(digits, classifier, tmp_path):
    evaluator = Evaluator(features=classifier, metrics=[metric() for metric in ALL], cache=str(tmp_path))
    evaluator.prepare(digits, "cpu")
    some, labels = digits.images[:500], digits.labels[:500]
    values = judge(evaluator, some, labels)
    assert set(values) == {name for metric in evaluator.metrics for name in metric.names}
    assert values["memorised"] == 1  # they are the training images
    assert values["label_accuracy"] == pytest.approx((classifier.predict(some) == labels).double().mean().item())
    ranking = evaluator.chosen(ranking=True)
    assert judge(evaluator, some, labels, ranking) == {name: values[name] for name in ("frechet", "label_accuracy")}
    unconditional = judge(evaluator, some)
    assert set(values) - set(unconditional) == {*ClasswiseFrechet.names, *LabelAccuracy.names}
    baselines = evaluator.baselines()
    assert set(baselines) == {
        *(f"halves_{name}" for name in DISTANCES),
        *(f"pixel_gaussian_{name}" for name in ("frechet", "kid")),  # of a Gaussian sample nobody asked for a class
    }
    assert abs(baselines["halves_kid"]) < 0.1 * baselines["pixel_gaussian_kid"]


def test_a_second_batch_of_images_meets_the_same_reference(digits, classifier):
    evaluator = Evaluator(features=classifier, metrics=[metric() for metric in ALL])
    evaluator.prepare(digits, "cpu")
    first = judge(evaluator, digits.images[:300], digits.labels[:300])
    judge(evaluator, digits.images[500:900].flip(2), digits.labels[500:900])
    assert judge(evaluator, digits.images[:300], digits.labels[:300]) == first


class Brightness(Metric):
    """Reads images and conditions alone."""

    names = ("brightness_gap",)
    reads = ("images", "label")

    def measure(self, real, generated):
        mean = [side["images"][side["label"] == 1].double().mean().item() for side in (real, generated)]
        return {"brightness_gap": abs(mean[0] - mean[1])}


def test_what_no_metric_reads_is_neither_computed_nor_kept():
    data, network = two_points(200), Pixels()
    evaluator = Evaluator(features=network, metrics=[Brightness()], count=100, batch=30)
    evaluator.prepare(data, "cpu")
    samples = evaluator.generate(lambda x0, told, noise: 0 * x0, [GaussianInputs(data, 0)], evaluator.metrics)
    assert set(samples) == {"images", "label"}
    light = data.images[data.labels == 1].double().mean().item()
    assert evaluator.measure(evaluator.metrics, samples) == {"brightness_gap": pytest.approx(light - 128)}
    assert network.seen == 0
    assert evaluator.baselines() == {}


def test_images_that_are_not_square(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 3, 7), generator=generator, dtype=torch.uint8)
    data = Given(images, torch.arange(60) % 3, "wide", sources=images)
    metrics = [Frechet(), KernelDistance(subsets=3, size=20), PrecisionRecall(), Brightness(), ClasswiseFrechet()]
    evaluator = Evaluator(features=Pixels(), metrics=metrics, count=40, batch=17, cache=str(tmp_path))
    evaluator.check(data)
    evaluator.prepare(data, "cpu")
    inputs = [GaussianInputs(data, 0)]
    samples = evaluator.generate(lambda x0, told, noise: x0.clamp(-1, 1), inputs, metrics, pairs=True)
    assert samples["images"].shape == (40, 1, 3, 7)
    values = evaluator.measure(metrics, samples) | evaluator.measure_pairs(samples["images"]) | evaluator.baselines()
    assert all(math.isfinite(value) for value in values.values())
    assert judge(evaluator, images, data.labels)["classwise_frechet"] == pytest.approx(0, abs=1e-6)


def test_features_of_real_images_are_extracted_once_and_kept(tmp_path):
    first, second = Pixels(), Pixels()
    for network in (first, second):
        metrics = [Frechet(), KernelDistance(subsets=3, size=50)]
        evaluator = Evaluator(features=network, metrics=metrics, cache=str(tmp_path))
        evaluator.prepare(two_points(), "cpu")
        judge(evaluator, two_points().images[:100])
        evaluator.baselines()
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
    provenance = {**own.features.provenance(), "reference": data.checksum}
    write_reference(tmp_path / "ref.npz", own.moments(), len(data), provenance)
    other = Evaluator(features=Pixels(), reference=str(tmp_path / "ref.npz"))
    other.prepare(two_points(100), "cpu")
    images = data.images[:300]
    assert judge(other, images)["frechet"] == pytest.approx(judge(own, images)["frechet"], rel=1e-12)
    assert other.provenance()["reference"] != data.checksum
    assert other.provenance()["reference_count"] == 2000
    assert "halves_frechet" not in other.baselines()


def test_metrics_of_single_images_refuse_mean_and_covariance(tmp_path):
    write_reference(tmp_path / "ref.npz", Moments.of(two_points().images.flatten(1)), 2000, Pixels().provenance())
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
    assert judge(file, images) == pytest.approx(judge(own, images))
    assert file.provenance()["reference_count"] == 2000


def test_pairs_are_compared_with_their_own_real_image():
    data = two_points(50)
    evaluator = Evaluator(features=Pixels(), count=50, batch=7)
    evaluator.prepare(Given(data.images, data.labels, "paired", sources=data.images), "cpu")
    assert evaluator.measure_pairs(data.images + 2)["psnr"] == pytest.approx(10 * math.log10(255**2 / 4))
    assert evaluator.measure_pairs(data.images.roll(1, 0))["psnr"] < 20


def test_images_of_a_file_have_no_conditions(tmp_path):
    data = two_points()
    np.savez(tmp_path / "adm.npz", arr_0=data.images.permute(0, 2, 3, 1).numpy())
    evaluator = Evaluator(features=Pixels(), metrics=[ClasswiseFrechet()], reference=str(tmp_path / "adm.npz"))
    with pytest.raises(DataError, match=r"adm\.npz holds images without label, which ClasswiseFrechet reads"):
        evaluator.prepare(data, "cpu")


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (1, {}, "Frechet needs two halves of at least 2 real images, and there are 1"),
        (3, {}, "Frechet needs two halves of at least 2 real images, and there are 3"),
        (5, {"metrics": [PrecisionRecall(k=5)]}, "PrecisionRecall needs at least 6 real images, and there are 5"),
        (9, {"metrics": [DensityCoverage()], "count": 4}, "DensityCoverage needs at least 6 generated images, got 4"),
        (9, {"metrics": [Frechet(), Memorisation()], "count": 2}, "Memorisation needs at least 3 generated images"),
    ],
)
def test_too_few_images_are_refused_at_once(count, options, message):
    evaluator = Evaluator(features=Pixels(), **{"count": 50, **options})
    with pytest.raises(DataError, match=message):
        evaluator.check(two_points(count))


@pytest.mark.parametrize("count", [2, 3])
def test_a_classifier_needs_images_to_be_tried_on(count):
    with pytest.raises(DataError, match=f"SmallClassifier learns from 4 images or more, and there are {count}"):
        Evaluator(features=SmallClassifier()).check(two_points(count))
    Evaluator(features=SmallClassifier()).check(two_points(4))


def test_a_field_that_the_data_do_not_give_is_refused_at_once():
    class Told(Brightness):
        reads = ("images", "text")

    with pytest.raises(DataError, match="Told reads text of the condition, which the data set does not give"):
        Evaluator(features=Pixels(), metrics=[Told()]).check(two_points(20))
