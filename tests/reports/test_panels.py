"""Which curves share a chart, and beside which levels a metric's curve is drawn."""

import re

import pytest

from realuid.reports.panels import charts, panel
from realuid.reports.results import results


def shared(*names):
    """The groups of names that are drawn in one chart each."""
    groups = {}
    for name in names:
        groups.setdefault(panel(name)[0], []).append(name)
    return list(groups.values())


def test_like_things_share_an_axis_and_no_others():
    assert shared(
        "generator_loss",
        "fake_loss",
        "teacher_loss",
        "generator_grad_norm",
        "fake_grad_norm",
        "gap",
        "gap_q1",
        "gap_q4",
        "fake_error_generated",
        "fake_error_real",
        "real_mean",
        "generated_mean",
        "real_spread",
        "generated_spread",
        "images_per_s",
        "flop_per_s",
        "memory_gib",
    ) == [
        ["generator_loss"],
        ["fake_loss"],
        ["teacher_loss"],
        ["generator_grad_norm", "fake_grad_norm"],
        ["gap", "gap_q1", "gap_q4"],
        ["fake_error_generated", "fake_error_real"],
        ["real_mean", "generated_mean"],
        ["real_spread", "generated_spread"],
        ["images_per_s"],
        ["flop_per_s"],
        ["memory_gib"],
    ]


def test_metrics_share_an_axis_with_other_averages_of_as_many_images():
    assert shared(
        "student_frechet",
        "student_frechet@0.99",
        "student_frechet_of_500",
        "student_frechet_of_500@0.99",
        "student_classwise_frechet",
        "student_worst_class_frechet",
        "student_kid",
        "student_kid_error",
        "student_my_own_metric",
    ) == [
        ["student_frechet", "student_frechet@0.99"],
        ["student_frechet_of_500", "student_frechet_of_500@0.99"],
        ["student_classwise_frechet"],
        ["student_worst_class_frechet"],
        ["student_kid"],
        ["student_kid_error"],
        ["student_my_own_metric"],
    ]


SUMMARY = {
    "teacher_frechet": 0.4,
    "halves_frechet": 0.3,
    "pixel_gaussian_frechet": 5.0,
    "teacher_label_accuracy": 0.9,
    "halves_classwise_frechet": 0.7,
}


def levels(name, summary=SUMMARY):
    rows = [{"images": x, name: x / 10} for x in (1, 2, 3)]
    (chart,) = charts(rows, summary)
    return re.findall(r'dashed"><i></i>([^<]+) <b>', chart)


def test_levels_are_of_the_same_metric_on_as_many_images():
    assert levels("student_frechet") == ["teacher", "halves of the data", "pixel Gaussian"]
    assert levels("student_frechet_of_500") == []
    assert levels("student_classwise_frechet") == ["halves of the data"]
    assert levels("student_label_accuracy") == ["teacher"]
    assert levels("teacher_frechet") == ["halves of the data", "pixel Gaussian"]
    assert levels("fake_loss") == []


def test_what_has_one_value_alone_is_in_the_table_and_not_drawn():
    rows = [{"images": 1, "fake_loss": 1.0}, {"images": 2, "fake_loss": 1.0, "student_recall": 0.4}]
    (chart,) = charts(rows, {})
    assert "Loss of the fake network" in chart
    assert "Recall, student" in results({"student_recall": 0.4})


@pytest.mark.parametrize("name", ["student_frechet", "teacher_my_own_metric", "halves_my_own_metric"])
def test_every_metric_is_in_the_table_also_one_that_nobody_here_knows(name):
    table = results({name: 0.25, "student_my_own_metric": 0.5})
    assert "0.25" in table
    assert "My own metric, student" in table
