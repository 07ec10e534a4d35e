"""Tables of a study inside a page: what stands between two comments is replaced by what the records say.

    <!-- study:real_data_digits guided -->
    <!-- /study -->

stands for the rows of the table `real_data_digits` whose names begin with `guided:`, and for all rows without the part
after the colon. Records are taken as they lie, by row and seed. The page says at which commits they were measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realuid.reports.history import number, read_json
from realuid.reports.study import Plan, Record, Row, check_alike, spread
from realuid.utils.errors import RunError

__all__ = ["filled", "records_in"]

BLOCK = re.compile(r"<!-- study:(?P<name>[\w.-]+)(?: (?P<group>[^>]+?))? -->\n.*?<!-- /study -->", re.DOTALL)


def records_in(folder: Path, plan: Plan) -> dict[tuple[str, int], Record]:
    """The records of a plan in a folder, by row's name and seed."""
    found: dict[tuple[str, int], Record] = {}
    for row in plan.rows:
        for seed in row.seeds:
            if record := read_json(folder / plan.name / f"{row.slug}-{seed}.json"):
                found[row.name, seed] = record
    return found


def filled(text: str, plan: Plan, records: Mapping[tuple[str, int], Record]) -> str:
    """The page with the plan's tables as the records are now; other studies' tables stay.

    Raises:
        RunError: if the page has no table of this plan, or one of a group that no row belongs to, or if values of one
            table were not measured alike.
    """
    count = 0

    def table(match: re.Match[str]) -> str:
        nonlocal count
        if match["name"] != plan.name:
            return match[0]
        count += 1
        rows = [row for row in plan.rows if match["group"] is None or row.group == match["group"]]
        if not rows:
            raise RunError(f"no row of {plan.name} begins with {match['group']!r} and a colon")
        first, last = match[0].splitlines()[0], match[0].splitlines()[-1]
        return "\n".join([first, "", *_table(plan, rows, records), "", last])

    text = BLOCK.sub(table, text)
    if not count:
        raise RunError(f"the page has no table of this study: write <!-- study:{plan.name} --> and <!-- /study -->")
    return text


def _table(plan: Plan, rows: list[Row], records: Mapping[tuple[str, int], Record]) -> list[str]:
    """Of the first metric with its seeds and differences, and the means of the others."""
    metric, *others = plan.metrics
    shown = [row for row in rows if _values(row, metric, records)]
    if not shown:
        return ["(no run is finished yet)"]
    names = {row.name for row in shown}
    for name in plan.metrics:
        check_alike(name, {key: record for key, record in records.items() if key[0] in names})
    titles = [metric.replace("_", " "), "seeds", "minus baseline", *(name.replace("_", " ") for name in others)]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    commits = set()
    for row in shown:
        values, base = _values(row, metric, records), plan.baseline_of(row)
        cells = [row.name, spread(list(values.values())), ", ".join(f"{value:.3g}" for value in values.values())]
        if base is None or base == row.name:
            cells.append("")
        else:
            before = _values(next(other for other in plan.rows if other.name == base), metric, records)
            paired = [value - before[seed] for seed, value in values.items() if seed in before]
            cells.append(spread(paired, signed=True))
        cells += [spread(list(_values(row, other, records).values())) for other in others]
        lines.append("| " + " | ".join(cells) + " |")
        commits |= {_commit(records[row.name, seed]) for seed in values}
    return [*lines, "", f"(records of {', '.join(sorted(commits))}; `docs/study/{plan.name}/`)"]


def _values(row: Row, metric: str, records: Mapping[tuple[str, int], Record]) -> dict[int, float]:
    found = {seed: number(records.get((row.name, seed), {}).get(metric)) for seed in row.seeds}
    return {seed: value for seed, value in found.items() if value is not None}


def _commit(record: Record) -> str:
    study: Mapping[str, Any] = record.get("study", {})
    return str(study.get("commit", "an unknown commit"))
