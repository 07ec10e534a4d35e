import math
import random
import xml.etree.ElementTree as ET

import pytest

from realuid.reports.charts import BINS, COLOURS, Series, line_chart, short, standalone


def drawn(*points, **options):
    return ET.fromstring(line_chart("Title", [Series("name", points)], **options))


def texts(figure):
    return [node.text for node in figure.iter("text")]


def coordinates(figure):
    return [tuple(map(float, pair.split(","))) for pair in figure.find(".//polyline").get("points").split()]


def test_points_lie_where_the_scales_say():
    figure = drawn((0, 0), (50, 5), (100, 10))
    (x0, y0), (x1, y1), (x2, y2) = coordinates(figure)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.15)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.15)
    assert y0 > y2
    labels = {node.text: node for node in figure.iter("text")}
    assert float(labels["50"].get("x")) == pytest.approx(x1, abs=0.15)
    assert float(labels["10"].get("y")) == pytest.approx(y2 + 4, abs=0.15)


def test_logarithmic_beyond_two_decades_of_positive_values():
    (_, y0), (_, y1), (_, y2) = coordinates(drawn((0, 0.1), (1, 10), (2, 1000)))
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.15)
    assert {"0.1", "10", "1k"} <= set(texts(drawn((0, 0.1), (1, 10), (2, 1000))))
    assert "logarithmic" in line_chart("t", [Series("n", [(0, 1), (1, 101)])])
    for tame in ([(0, 1), (1, 99)], [(0, -1), (1, 1000)], [(0, 0), (1, 1000)]):
        assert "logarithmic" not in line_chart("t", [Series("n", tame)])
    assert "logarithmic" in line_chart("t", [Series("n", [(0, 1), (1, 11)])], decades=1)
    assert "logarithmic" not in line_chart("t", [Series("n", [(0, 1), (1, 1000)])], from_zero=True)


def test_references_are_lines_with_a_legend():
    figure = drawn((0, 3), (1, 2), references=[("teacher", 2.5)])
    (line,) = [node for node in figure.iter("line") if "reference" in node.get("class")]
    assert line.get("y1") == line.get("y2")
    assert "".join(figure.itertext()).count("teacher 2.5") == 1


def test_long_curves_are_thinned_to_mean_and_band():
    generator = random.Random(0)
    points = [(x, generator.gauss(0, 1)) for x in range(20_000)]
    figure = drawn(*points)
    assert len(coordinates(figure)) == BINS
    assert figure.find(".//polygon") is not None
    assert len(line_chart("t", [Series("n", points)])) < 20_000


def test_short_curves_mark_their_points():
    assert len(list(drawn((0, 3), (1, 2), (5, 1)).iter("circle"))) == 3


@pytest.mark.parametrize(
    "points",
    [
        [(64, 2.0)],
        [(0, 0.0), (1, 0.0)],
        [(0, -3.0), (1, -3.0)],
        [(0, 1e-310), (1, 1.0)],
        [(0, 1e-12), (1, 1e12)],
        [(0, 1e200), (1, -1e200)],
        [(1_000_000, 1.0), (1_000_001, 1.0000001)],
    ],
)
def test_odd_values_are_drawn_all_the_same(points):
    figure = drawn(*points)
    assert all(math.isfinite(v) for pair in coordinates(figure) for v in pair)
    assert 1 <= len(texts(figure)) < 40


def test_no_points_no_chart():
    assert line_chart("t", []) == line_chart("t", [Series("n", [])]) == ""


def test_names_are_escaped():
    chart = line_chart("<script>", [Series('a"&<b>', [(0, 1), (1, 2)])], references=[("<i>", 1.0)])
    assert "<script>" not in chart
    assert 'a"&<b>' in "".join(ET.fromstring(chart).itertext())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.30000000000000004, "0.3"),
        (0.0123, "0.0123"),
        (1234, "1.234k"),
        (999_999, "1M"),
        (-2_500_000, "-2.5M"),
        (1.2e-5, "1.2e-5"),
        (3e15, "3e15"),
        (2e-12, "2e-12"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_a_given_spread_is_drawn_behind_the_curve():
    points, spread = [(0, 2.0), (1, 3.0)], [(1.0, 3.0), (2.0, 5.0)]
    figure = ET.fromstring(line_chart("t", [Series("n", points, spread)]))
    corners = [tuple(map(float, pair.split(","))) for pair in figure.find(".//polygon").get("points").split()]
    (_, y0), (_, y1) = coordinates(figure)
    assert corners[0][1] < y0 < corners[3][1]  # y grows downwards
    assert corners[1][1] < y1 < corners[2][1]


def test_curves_beyond_the_colours_are_told_apart():
    figure = ET.fromstring(line_chart("t", [Series(str(k), [(0, k), (1, k + 1)]) for k in range(COLOURS + 1)]))
    classes = [node.get("class") for node in figure.iter("polyline")]
    assert len(set(classes)) == COLOURS + 1


def test_a_file_of_a_chart_stands_alone():
    chart = line_chart("A & b", [Series("one <i>", [(0, 3), (1, 2)])], references=[("level", 2.5)])
    file = ET.fromstring(standalone(chart))
    space = "{http://www.w3.org/2000/svg}"
    assert file.tag == f"{space}svg"
    words = ["".join(node.itertext()) for node in file.iter(f"{space}text")]
    assert words[0] == "A & b"
    assert words[-2:] == ["one <i> 2", "level 2.5"]
    assert ".line" in file.find(f"{space}style").text
    height = float(file.get("viewBox").split()[3])
    assert all(0 <= float(node.get("y")) <= height for node in file.iter(f"{space}text") if node.get("y"))
    assert ET.fromstring(standalone(line_chart("t", []))).tag == f"{space}svg"
