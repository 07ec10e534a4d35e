"""Tables of a study in a page: what stands between the comments follows the records."""

import json

import pytest

from realuid.commands.study import main
from realuid.reports.study import Plan, tables
from realuid.reports.study_pages import filled
from realuid.utils.errors import RunError

TABLE = """
gin = ["gin/smoke.gin"]
seeds = [0, 1]
baseline = ["near: UID", "far: UID"]
metrics = ["student_frechet", "student_label_accuracy"]

[[row]]
name = "teacher, far"

[[row]]
name = "near: UID"

[[row]]
name = "far: UID"

[[row]]
name = "far: r = 1"
"""
PAGE = """before

<!-- study:wrong far -->
| old |
<!-- /study -->

<!-- study:another -->
| theirs |
<!-- /study -->
after
"""
VALUES = {"near: UID": [0.3], "far: UID": [2.0, 2.2], "far: r = 1": [0.5, 0.9]}


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "wrong.toml").write_text(TABLE)
    return Plan.read(tmp_path / "wrong.toml")


@pytest.fixture
def records():
    return {
        (name, seed): {"student_frechet": value, "student_label_accuracy": 0.9, "study": {"commit": "abc"}}
        for name, values in VALUES.items()
        for seed, value in enumerate(values)
    }


def test_a_row_is_compared_with_the_baseline_of_its_group(plan, records):
    assert [plan.baseline_of(row) for row in plan.rows] == [None, "near: UID", "far: UID", "far: UID"]
    text = tables(plan, {key: record | {"images": 1} for key, record in records.items()})
    assert "| far: r = 1 | 2 of 2 | 0.70 ± 0.28 | 0.5, 0.9 | -1.40 ± 0.14 |" in text
    assert "| near: UID | 1 of 2 | 0.3 | 0.3 |  |" in text


def test_a_page_shows_the_groups_rows_and_keeps_the_rest(plan, records):
    text = filled(PAGE, plan, records)
    assert "| far: r = 1 | 0.70 ± 0.28 | 0.5, 0.9 | -1.40 ± 0.14 | 0.90 ± 0.00 |" in text
    assert "near: UID" not in text
    assert "(records of abc; `docs/study/wrong/`)" in text
    assert "| old |" not in text
    assert "| theirs |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert filled(text, plan, records) == text
    assert "(no run is finished yet)" in filled(PAGE, plan, {})
    assert "| near: UID | 0.3 | 0.3 |  | 0.9 |" in filled(PAGE.replace("wrong far", "wrong near"), plan, records)


def test_values_that_were_not_measured_alike_are_in_no_table_together(plan, records):
    for seed in (0, 1):
        records["far: UID", seed]["provenance"] = {"student_frechet": {"network_sha256": f"{seed}" * 64}}
    with pytest.raises(RunError, match=r"far: UID, seed 0 and far: UID, seed 1 were not measured alike"):
        filled(PAGE, plan, records)
    filled(PAGE.replace("wrong far", "wrong near"), plan, records)


def test_a_page_without_the_table_and_a_group_without_rows(plan, records):
    with pytest.raises(RunError, match="no table of this study: write <!-- study:wrong -->"):
        filled("nothing", plan, records)
    with pytest.raises(RunError, match="no row of wrong begins with 'near by'"):
        filled(PAGE.replace("wrong far", "wrong near by"), plan, records)


def test_baselines_are_told_apart(tmp_path):
    for baseline in ('["far: UID", "far: r = 1"]', '["far: UID", "teacher, far"]'):
        path = tmp_path / "wrong.toml"
        path.write_text(TABLE.replace('["near: UID", "far: UID"]', baseline))
        with pytest.raises(RunError, match="each needs a beginning of its own"):
            Plan.read(path)


def test_the_command_fills_a_page(tmp_path, plan, records, capsys):
    page, docs = tmp_path / "page.md", tmp_path / "docs"
    page.write_text(PAGE)
    for (name, seed), record in records.items():
        row = next(row for row in plan.rows if row.name == name)
        path = docs / "wrong" / f"{row.slug}-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    assert main([str(tmp_path / "wrong.toml"), "--docs", str(docs), "--fill", str(page)]) == 0
    assert page.read_text() == filled(PAGE, plan, records)
    assert main([str(tmp_path / "wrong.toml"), "--fill", str(tmp_path / "none.md")]) == 2
    assert "there is no page" in capsys.readouterr().err
