import dataclasses
from statistics import fmean, stdev

import pytest

from realuid.reports.history import measured_as
from realuid.reports.study import Plan, Row, curves, spread, tables
from realuid.utils.errors import RunError

PROVENANCE = {"network": "n", "count": 5}


def plan(baseline="A"):
    rows = tuple(Row(name, ("x.gin",), (), (0, 1, 2)) for name in ("A", "B"))
    return Plan("p", rows, ("student_frechet",), () if baseline is None else (baseline,))


def record(value, provenance=PROVENANCE, curve=(), name="student_frechet"):
    own = {"student_frechet": value, "provenance": {"student_frechet": provenance}, "images": 10, "wall_s": 2.0}
    return own | {"curve": curve, "curve_metric": name}


VALUES = {("A", 0): 1.0, ("A", 1): 1.2, ("A", 2): 1.4, ("B", 0): 0.9, ("B", 2): 1.5}


def test_means_spreads_and_paired_differences():
    text = tables(plan(), {key: record(value) for key, value in VALUES.items()})
    assert "| A | 3 of 3 | 1.20 ± 0.20 | 1, 1.2, 1.4 |  |" in text
    paired = [0.9 - 1.0, 1.5 - 1.4]
    assert f"| B | 2 of 3 | 1.20 ± 0.42 | 0.9, 1.5 | {fmean(paired):+.2f} ± {stdev(paired):.2f} |" in text.replace(
        "-0.00", "+0.00"
    )


def test_records_of_other_measurements_are_never_in_one_table():
    records = {key: record(value) for key, value in VALUES.items()}
    records["B", 2] = record(1.5, PROVENANCE | {"count": 6})
    with pytest.raises(RunError, match=r"B, seed 2 were not measured alike.*count: 5 -> 6"):
        tables(plan(), records)


def test_a_metric_without_a_provenance_of_its_own_has_its_roles():
    """As label accuracy in records of version 0.1, where the first metric has settings that are not its own."""

    def measured(subsets, **more):
        own = {"student_kid": PROVENANCE | {"settings": {"subsets": subsets}}} | more
        return {"student_label_accuracy": 0.5, "provenance": own, "images": 10}

    both = dataclasses.replace(plan(None), metrics=("student_label_accuracy",))
    records = {("A", 0): measured(5), ("B", 0): measured(9, student_label_accuracy=PROVENANCE)}
    assert "| B | 1 of 3 | 0.5 |" in tables(both, records)
    records["B", 0] = measured(5, student_label_accuracy=PROVENANCE | {"count": 6})
    with pytest.raises(RunError, match="count: 5 -> 6"):
        tables(both, records)


def test_rows_of_another_kind_are_not_in_a_table_of_what_they_have_not():
    records = {("A", 0): record(1.0), ("B", 0): {"teacher_frechet": 0.5, "provenance": {}, "images": 10}}
    assert "| A | 1 of 3 | 1 |" in tables(plan(None), records)
    assert "| B | 1 of 3 |" not in tables(plan(None), records)
    assert "| B | 10 |" in tables(plan(None), records), "its costs are there all the same"
    records["B", 0] = record(None)
    assert "| B | 0 of 3 |" in tables(plan(None), records), "a metric that came to nothing is not hidden"


def test_a_row_goes_on_from_another(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("""
        gin = ["x.gin"]
        [[row]]
        name = "teacher"
        [[row]]
        name = "student"
        after = "teacher"
        seeds = [0, 1]
    """)
    assert [row.after for row in Plan.read(path).rows] == [None, "teacher"]


def test_nothing_run_yet():
    text = tables(plan(None), {})
    assert "| A | 0 of 3 |" in text
    assert curves(plan(), {}) == {"images": "", "time": ""}


def test_curves_are_means_over_seeds_at_shared_points():
    one = [[10, 4.0, 1.0], [20, 2.0, 2.0], [30, 1.0, 3.0]]
    two = [[10, 6.0, 1.5], [20, 4.0, 3.0]]
    drawn = curves(plan(), {("A", 0): record(1, curve=one), ("A", 1): record(1, curve=two)})
    assert "<title>5 at 10</title>" in drawn["images"]
    assert "<title>3 at 20</title>" in drawn["images"]
    assert "at 30" not in drawn["images"]
    assert "<title>3 at 2.5</title>" in drawn["time"]
    assert "polygon" in drawn["images"]
    both = {("A", 0): record(1, curve=one), ("B", 0): record(1, curve=two)}
    assert "</i>B <b>" in curves(plan(), both)["images"]
    assert "</i>B <b>" not in curves(dataclasses.replace(plan(), curves=("A",)), both)["images"]
    assert "Student frechet, mean" in drawn["images"]


def test_curves_of_fewer_images_are_named_so_and_not_drawn_with_others():
    points = [[10, 4.0, 1.0], [20, 2.0, 2.0]]
    records = {("A", n): record(1, curve=points, name="student_frechet_of_1000") for n in (0, 1)}
    assert "Student frechet of 1,000 images, mean and range over seeds" in curves(plan(), records)["time"]
    records["B", 0] = record(1, curve=points)
    with pytest.raises(RunError, match="student_frechet and of student_frechet_of_1000 are not drawn together"):
        curves(plan(), records)


def test_the_curve_of_a_metric_is_that_measured_during_the_run():
    def rows(*names):
        return [{"images": n, "wall_s": n} | dict.fromkeys(names, 1.0) for n in (10, 20)]

    during = rows("student_frechet_of_100", "student_frechet_of_100@0.9", "student_frechet@0.9")
    assert measured_as([*during, {"images": 30, "student_frechet": 1.0}], "student_frechet") == "student_frechet_of_100"
    assert measured_as(rows("student_frechet", "student_frechet@0.9"), "student_frechet") == "student_frechet"
    assert measured_as([], "student_frechet") == "student_frechet"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([0.12345], "0.123"),
        ([1.0, 1.0], "1.0 ± 0.0"),
        ([120.0, 140.0], "130 ± 14"),
        ([0.1, 0.1234], "0.112 ± 0.017"),
        ([0.15556, 0.15603], "0.1558 ± 0.0003"),
        ([12345.0, 12345.001], "12345 ± 0"),
        ([-0.01, 0.02], "0.005 ± 0.021"),
    ],
)
def test_spread(values, shown):
    assert spread(values) == shown
