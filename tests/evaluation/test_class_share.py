"""The share of chosen classes, counted by hand."""

import pytest
import torch

from realuid.evaluation.class_share import ClassShare


def measured(metric, logits, order):
    metric.update({"logits": logits[order]}, order, real=False)
    return metric.compute()["class_share"]


def test_it_is_the_share_of_images_whose_largest_logit_is_of_a_chosen_class():
    logits = torch.full((8, 5), -1.0)
    for row, label in enumerate([0, 1, 1, 4, 3, 2, 4, 4]):
        logits[row, label] = 2.0
    for labels, count in (((4,), 3), ((1, 4), 5), ((0, 1, 2, 3, 4), 8), ((3, 3), 1)):
        assert measured(ClassShare(labels=labels), logits, torch.arange(7, -1, -1)) == count / 8


def test_classes_that_there_are_not():
    for labels in ((), (-1,)):
        with pytest.raises(ValueError, match="must name classes from 0 on"):
            ClassShare(labels=labels)
    with pytest.raises(ValueError, match="names 5, the network knows 5 classes"):
        measured(ClassShare(labels=(0, 5)), torch.zeros(3, 5), torch.arange(3))
