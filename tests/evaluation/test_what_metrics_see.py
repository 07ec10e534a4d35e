"""A planted defect is found by the metric that is to find it, and left alone by those that are blind to it.

The table in docs/metrics.md is of these defects and this network; `python tests/evaluation/test_what_metrics_see.py`
prints it.
"""

from copy import copy

import pytest
import torch
from torch.nn import functional as F

from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.frechet import Frechet
from realuid.evaluation.inception_score import InceptionScore
from realuid.evaluation.kernel import KernelDistance
from realuid.evaluation.neighbours import DensityCoverage, Memorisation, PrecisionRecall


def halves(digits):
    """Two halves of the digits: the reference, and what a perfect model would give."""
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    return order[:898], order[898:1796]


def defects(digits):
    reference, held_out = halves(digits)
    images, labels = digits.images[held_out], digits.labels[held_out]
    soft = F.avg_pool2d(F.pad(images.float(), (1, 1, 1, 1), mode="replicate"), 3, stride=1).round().to(torch.uint8)
    generator = torch.Generator().manual_seed(1)
    noise = 24 * torch.randn(images.shape, generator=generator)
    return {
        "held-out real images": images,
        "brighter by 40 levels": (images.int() + 40).clamp(max=255).to(torch.uint8),
        "blurred (3x3 mean)": soft,
        "noise of 24 levels": (images.float() + noise).round().clamp(0, 255).to(torch.uint8),
        "class 7 left out": images[labels != 7],
        "only class 7": images[labels == 7],
        "half are one image": torch.cat([images[:449], images[:1].expand(449, -1, -1, -1)]),
        "copies of the reference": digits.images[reference],
    }


def table(digits, classifier):
    from tests.evaluation.stand_ins import Given

    reference, _ = halves(digits)
    network = copy(classifier)  # the one trained on all digits, whatever the reference
    network.prepare = lambda data, device: None
    metrics = [
        Frechet(),
        KernelDistance(subsets=30, size=400),
        InceptionScore(),
        PrecisionRecall(),
        DensityCoverage(),
        Memorisation(),
    ]
    evaluator = Evaluator(features=network, metrics=metrics)
    evaluator.prepare(Given(digits.images[reference], digits.labels[reference], "half of the digits"), "cpu")
    return {
        name: evaluator.measure(metrics, {"features": evaluator.extract(images)})
        for name, images in defects(digits).items()
    }


@pytest.fixture(scope="module")
def seen(digits, classifier):
    return table(digits, classifier)


def test_held_out_images_are_at_zero_within_the_error(seen):
    fresh = seen["held-out real images"]
    assert abs(fresh["kid"]) < 3 * fresh["kid_error"]
    assert min(fresh[name] for name in ("precision", "recall", "density", "coverage")) > 0.8
    assert fresh["memorised"] <= fresh["memorised_real"] + 0.01
    assert fresh["nearest_ratio"] == pytest.approx(1, abs=0.1)


def test_both_distances_find_every_change_of_the_distribution(seen):
    fresh = seen["held-out real images"]
    for name in (
        "brighter by 40 levels",
        "blurred (3x3 mean)",
        "class 7 left out",
        "only class 7",
        "half are one image",
    ):
        assert seen[name]["frechet"] > 1.5 * fresh["frechet"], name
        assert seen[name]["kid"] > fresh["kid"] + 2 * fresh["kid_error"], name


def test_quality_is_precisions_and_variety_recalls(seen):
    fresh, blurred, single = (seen[name] for name in ("held-out real images", "blurred (3x3 mean)", "only class 7"))
    assert blurred["precision"] < 0.5 * fresh["precision"]
    assert blurred["density"] < 0.5 * fresh["density"]
    assert single["precision"] > 0.9
    assert single["recall"] < 0.25
    assert single["coverage"] < 0.25
    assert seen["class 7 left out"]["recall"] < fresh["recall"] - 0.05
    assert seen["class 7 left out"]["precision"] > fresh["precision"] - 0.03


def test_the_inception_score_sees_no_missing_reference(seen):
    assert seen["copies of the reference"]["inception_score"] == pytest.approx(
        seen["held-out real images"]["inception_score"], rel=0.1
    )
    assert seen["only class 7"]["inception_score"] < 0.5 * seen["held-out real images"]["inception_score"]


def test_copies_are_found_by_memorisation_alone(seen):
    copies = seen["copies of the reference"]
    assert copies["memorised"] == 1
    assert copies["nearest_ratio"] < 0.01
    assert copies["frechet"] < 1e-6  # the better for it


if __name__ == "__main__":
    from sklearn.datasets import load_digits

    from realuid.evaluation.small_classifier import SmallClassifier
    from tests.evaluation.stand_ins import Given

    raw = load_digits()
    pixels = torch.from_numpy(raw.images * (255 / 16)).round().to(torch.uint8)[:, None]
    data = Given(pixels, torch.from_numpy(raw.target), checksum="digits")
    network = SmallClassifier()
    network.prepare(data, "cpu")
    rows = table(data, network)
    names = ("frechet", "kid", "kid_error", "inception_score", "precision", "recall", "density", "coverage")
    names = (*names, "memorised", "nearest_ratio")
    print("| | " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.3g}" for key in names) + " |")
