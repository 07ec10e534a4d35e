"""Couplings against brute force over permutations, the monotone map of one dimension, and their own promises."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from realuid.conditions import Condition, labelled
from realuid.paths.couplings import IndependentCoupling, MinibatchOT, PairedCoupling

UNCONDITIONAL = Condition()


def batch(count, *shape, seed=0):
    return torch.randn(2, count, *shape, generator=torch.Generator().manual_seed(seed))


def numbered(coupling, x0, x1, condition=UNCONDITIONAL):
    """For every row of x1 which row of x0 it was given; every row of x0 must be another."""
    assert len(x0.flatten(1).unique(dim=0)) == len(x0)
    paired = coupling.pair(x0, x1, condition)
    same = (paired[:, None] == x0[None]).flatten(2).all(2)
    assert bool((same.sum(1) == 1).all())
    return same.int().argmax(1)


def cost(x0, x1, columns):
    return float((x0[torch.as_tensor(columns)] - x1).square().sum())


@pytest.mark.parametrize("size", [2, 3, 5, 6])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2, 2)])
def test_the_assignment_is_the_best_of_all_permutations(size, shape):
    for seed in range(5):
        x0, x1 = batch(size, *shape, seed=seed)
        best = min(permutations(range(size)), key=lambda columns: cost(x0, x1, columns))
        assert numbered(MinibatchOT(size=size), x0, x1).tolist() == list(best)


def test_groups_are_consecutive_and_on_their_own():
    x0, x1 = batch(20, 3)
    columns = numbered(MinibatchOT(size=5), x0, x1)
    assert sorted(columns.tolist()) == list(range(20))
    assert torch.equal(columns // 5, torch.arange(20) // 5)
    for group in range(4):
        part = slice(5 * group, 5 * group + 5)
        alone = numbered(MinibatchOT(size=5), x0[part], x1[part])
        assert torch.equal(columns[part], alone + 5 * group)
    assert cost(x0, x1, numbered(MinibatchOT(size=20), x0, x1)) < cost(x0, x1, columns)


def test_by_label_every_class_keeps_its_sources_and_the_best_of_their_permutations():
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    for seed in range(5):
        x0, x1 = batch(6, 2, seed=seed)
        columns = numbered(MinibatchOT(size=6, by_label=True), x0, x1, labelled(labels))
        assert torch.equal(labels[columns], labels)
        within = [p for p in permutations(range(6)) if torch.equal(labels[list(p)], labels)]
        assert columns.tolist() == list(min(within, key=lambda p: cost(x0, x1, p)))


def test_without_by_label_classes_get_sources_of_their_own_and_with_it_not():
    """Class 1 lies to the right: plain transport gives it the right half of the noise, which then betrays the label."""
    labels = torch.arange(128) % 2
    x0, x1 = batch(128, 1)
    x1 = x1 + 10 * labels[:, None]
    for by_label, least, most in ((False, 1.2, 2.0), (True, -0.5, 0.5)):
        paired = MinibatchOT(size=128, by_label=by_label).pair(x0, x1, labelled(labels))
        assert least < float(paired[labels == 1].mean() - paired[labels == 0].mean()) < most


@pytest.mark.parametrize("labels", [torch.zeros(48, dtype=torch.int64), torch.arange(48) % 4])
def test_far_samples_do_not_outweigh_the_classes(labels):
    x0, x1 = batch(48, 2)
    columns = numbered(MinibatchOT(size=48, by_label=True), 1e4 * x0, 1e4 * x1, labelled(labels))
    assert torch.equal(labels[columns], labels)


def test_samples_without_labels_are_of_one_class():
    """A framework's file asks for `by_label` whatever the data set: of an unlabelled one every source is in reach."""
    x0, x1 = batch(6, 2)
    by_label, plain = MinibatchOT(size=6, by_label=True), MinibatchOT(size=6)
    for condition in (UNCONDITIONAL, Condition({"text": torch.randn(6, 3)})):
        assert torch.equal(by_label.pair(x0, x1, condition), plain.pair(x0, x1, condition))


def test_in_one_dimension_the_assignment_is_the_monotone_one():
    x0, x1 = batch(64, 1)
    paired = MinibatchOT(size=64).pair(x0, x1, UNCONDITIONAL)
    assert torch.equal(paired[x1[:, 0].argsort()], x0.sort(dim=0).values)


def test_with_growing_groups_gaussians_are_paired_by_the_transport_map():
    """From N(0, 1) to N(m, s^2) it is x1 = m + s x0; a group of n differs by its own two empirical quantiles."""
    distances = []
    for size in (4, 32, 256):
        x0, x1 = batch(2048, 1)
        x1 = 1.5 + 0.4 * x1
        paired = MinibatchOT(size=size).pair(x0, x1, UNCONDITIONAL)
        distances.append(float((paired - (x1 - 1.5) / 0.4).square().mean()))
    assert distances[0] > 4 * distances[1] > 16 * distances[2]
    assert distances[-1] < 0.03


def test_gradients_flow_through_the_samples_and_not_through_the_assignment():
    x0, x1 = batch(6, 2)
    x0, x1 = x0.requires_grad_(), x1.requires_grad_()
    paired = MinibatchOT(size=3).pair(x0, x1, UNCONDITIONAL)
    weights = torch.arange(12.0).view(6, 2)
    (paired * weights).sum().backward()
    columns = numbered(MinibatchOT(size=3), x0.detach(), x1.detach())
    expected = torch.zeros(6, 2)
    expected[columns] = weights
    assert torch.equal(x0.grad, expected)
    assert x1.grad is None


def test_on_the_meta_device_shapes_are_all_there_is():
    x = torch.empty(8, 3, 4, 4, device="meta")
    paired = MinibatchOT(size=4, by_label=True).pair(x, x, labelled(torch.empty(8, dtype=torch.int64, device="meta")))
    assert paired.shape == x.shape
    assert paired.is_meta


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sources_keep_their_type(dtype):
    x0, x1 = batch(4, 2).to(dtype)
    assert MinibatchOT(size=2).pair(x0, x1, UNCONDITIONAL).dtype == dtype


@pytest.mark.parametrize("coupling", [IndependentCoupling(), IndependentCoupling(source="data"), PairedCoupling()])
def test_other_couplings_take_the_source_as_it_comes(coupling):
    x0, x1 = batch(4, 2)
    assert torch.equal(coupling.pair(x0, x1, UNCONDITIONAL), x0)
    assert coupling.size == 1


@pytest.mark.parametrize(
    ("coupling", "gaussian", "independent", "keeps"),
    [
        (IndependentCoupling(), True, True, False),
        (IndependentCoupling(source="data"), False, True, False),
        (MinibatchOT(size=2), True, False, False),
        (MinibatchOT(size=2, source="data"), False, False, False),
        (PairedCoupling(), False, False, True),
    ],
)
def test_what_a_coupling_says_of_itself(coupling, gaussian, independent, keeps):
    assert (coupling.gaussian_source, coupling.independent, coupling.keeps_source) == (gaussian, independent, keeps)


def test_refusals():
    with pytest.raises(ValueError, match=r"size must be at least 2, got 1; a group of one is IndependentCoupling"):
        MinibatchOT(size=1)
    x0, x1 = batch(6, 2)
    with pytest.raises(ValueError, match=r"6 samples do not divide into groups of MinibatchOT.size = 4"):
        MinibatchOT(size=4).pair(x0, x1, UNCONDITIONAL)
