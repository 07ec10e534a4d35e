import pytest

from realuid.evaluation.provenance import check_comparable, differences, measurement, significant
from realuid.utils.errors import RunError

PROVENANCE = {"network": "n", "count": 500, "seed": 0, "ema": "0.99", "checkpoint": "a.pt", "weights": "w"}


def test_what_is_measured_may_differ_and_how_may_not():
    other = PROVENANCE | {"ema": "0.9", "checkpoint": "b.pt", "weights": "v"}
    assert differences(PROVENANCE, other) == []
    check_comparable([("a", PROVENANCE), ("b", other)])
    assert "ema" not in measurement(PROVENANCE)
    changed = {"count": 400, "network": "m", "settings": {"k": 3}}
    for name, value in changed.items():
        with pytest.raises(RunError, match=f"a and c were not measured alike.*{name}"):
            check_comparable([("a", PROVENANCE), ("b", other), ("c", PROVENANCE | {name: value})])


def test_a_missing_word_is_a_difference():
    without = {name: value for name, value in PROVENANCE.items() if name != "seed"}
    assert differences(PROVENANCE, without) == ["seed: 0 -> None"]


@pytest.mark.parametrize(
    ("value", "shown"), [(123.456789, 123.5), (0.000123456, 0.0001235), (0.0, 0.0), (-2.00004, -2.0)]
)
def test_four_digits(value, shown):
    assert significant(value) == shown
