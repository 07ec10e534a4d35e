"""The class-wise distance beside scipy's formula, class by class and by hand; label accuracy counted by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from realuid.evaluation.classwise import ClasswiseFrechet
from realuid.evaluation.label_accuracy import LabelAccuracy

CLASSES = 3


def side(count, seed, shift):
    """Features `[count, 4]` and labels; class k lies k * shift away."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(7 + seed))
    return {"features": torch.randn(count, 4, generator=generator) @ mix + shift * labels[:, None], "label": labels}


def by_hand(one, other):
    """The Frechet distance of two sets, in numpy."""
    one, other = one.double().numpy(), other.double().numpy()
    s1, s2 = np.cov(one.T), np.cov(other.T)
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real))


def shown(metric, real, generated):
    """What it says of samples that come in two parts, in another order."""
    count = len(generated["label"])
    metric.update(real, torch.arange(len(real["label"])), real=True)
    for rows in torch.randperm(count, generator=torch.Generator().manual_seed(1)).split(count // 2 + 1):
        metric.update({name: x[rows] for name, x in generated.items()}, rows, real=False)
    return metric.compute()


def test_it_is_the_distance_of_each_class():
    real, generated = side(300, 0, 1.0), side(200, 1, 1.5)
    expected = [
        by_hand(*(one["features"][one["label"] == label] for one in (real, generated))) for label in range(CLASSES)
    ]
    found = shown(ClasswiseFrechet(), real, generated)
    assert found["classwise_frechet"] == pytest.approx(sum(expected) / CLASSES, rel=1e-9)
    assert found["worst_class_frechet"] == pytest.approx(max(expected), rel=1e-9)
    assert found["compared_classes"] == CLASSES


def test_two_classes_that_change_places_are_found_by_it_alone():
    real = side(600, 0, 4.0)
    swapped = {**real, "label": torch.tensor([1, 0, 2])[real["label"]]}
    found = shown(ClasswiseFrechet(), real, swapped)
    assert by_hand(real["features"], swapped["features"]) < 1e-6
    assert found["worst_class_frechet"] > 4 * 4**2 * 0.9, "both lie four units away in each of four features"
    assert found["classwise_frechet"] == pytest.approx(2 / 3 * found["worst_class_frechet"], rel=0.1)


def test_classes_with_too_few_images_are_left_out_and_counted():
    real, generated = side(300, 0, 1.0), side(200, 1, 1.5)
    lone = torch.where(torch.arange(200) == 3, 2, generated["label"].clamp(max=1))
    found = shown(ClasswiseFrechet(), real, {**generated, "label": lone})
    assert found["compared_classes"] == 2
    assert all(math.isfinite(value) for value in found.values())
    with pytest.raises(ValueError, match="no class has 500 images on both sides"):
        shown(ClasswiseFrechet(least_of_class=500), real, generated)
    with pytest.raises(ValueError, match="must be at least 2, got 1"):
        ClasswiseFrechet(least_of_class=1)


def test_label_accuracy_is_the_share_of_agreeing_rows():
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 2, 1])]
    metric = LabelAccuracy()
    order = torch.tensor([4, 1, 0, 3, 2])
    asked = torch.tensor([0, 1, 1, 2, 0])
    metric.update({"logits": logits[order], "label": asked[order]}, order, real=False)
    assert metric.compute() == {"label_accuracy": 3 / 5}
