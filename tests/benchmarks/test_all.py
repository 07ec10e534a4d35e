"""All measurements in small: tables in the order of their worth, and an end in time."""

import json
import time

import pytest

from realuid.benchmarks import all as everything
from realuid.benchmarks import step as steps
from realuid.benchmarks.all import PLAN, Measurement, measured
from realuid.benchmarks.tables import table
from realuid.commands.benchmark import main

TINY = [
    *("--device", "cpu", "--batch", "2", "--bind", "SHAPE = (3, 8, 8)", "--bind", "UNet.width = 16"),
    *("--bind", "UNet.multipliers = (1, 2)", "--bind", "UNet.blocks = 1", "--bind", "UNet.head_channels = 16"),
    *("--bind", "Distillation.fake_steps = 1", "--bind", "Euler.steps = 1"),
]


@pytest.mark.slow
def test_tables_with_command_device_and_commit(tmp_path, monkeypatch):
    plan = [PLAN[0], next(m for m in PLAN if m.name == "kernels")]
    monkeypatch.setattr(everything, "PLAN", plan)
    monkeypatch.setattr(steps, "peak", lambda arithmetic: 1e12)
    assert main(["all", "--minutes", "4.5", "--out", str(tmp_path), *TINY]) == 0
    page = (tmp_path / "performance.md").read_text()
    assert "Not measured" not in page, page
    first, second = (page.index(f"**{m.title}**") for m in plan)
    assert first < second
    assert page.count(", commit ") == 3
    assert page.count("batch 2, ") == 2
    for name in ("step", "kernels"):
        assert f"python tools/benchmark.py {name} --gin gin/fm_cifar10.gin --bind 'SHAPE = (3, 8, 8)'" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| all |")]
    head = next(line for line in page.splitlines() if line.startswith("| way |"))
    assert len(row.split("|")) == len(head.split("|"))
    assert "fake gradient difference" in head
    assert any(line.startswith("| aten::") for line in page.splitlines()), page
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert {"device", "torch"} <= set(lines[0])


def test_it_ends_in_time_and_says_what_is_missing(tmp_path, monkeypatch):
    """A benchmark that never ends is ended with whatever it started, and what it printed counts."""
    monkeypatch.setattr(everything, "_child", _endless)
    monkeypatch.setattr(everything, "SPARE", 0.5)
    began = time.monotonic()
    assert main(["all", "--minutes", "0.025", "--out", str(tmp_path), *TINY]) == 0
    assert time.monotonic() - began < 5
    page = (tmp_path / "performance.md").read_text()
    assert f"- {PLAN[0].title}: the time was over" in page
    assert f"- {PLAN[-1].title}: no time was left" in page
    assert "| 1 |" in page


def _endless(words, kept):
    import os

    os.setsid()
    with kept.open("a", buffering=1) as file:
        file.write('{"device": "none", "torch": "0", "threads": 1}\n{"ms": 1}\n{"ms"')
        file.flush()
        time.sleep(600)


def test_a_measurement_that_fails_is_said(tmp_path):
    lines, ended = measured(["step", "--gin", "gin/none.gin"], tmp_path / "lines.jsonl", 60)
    assert (lines[1:], ended) == ([], "ended with status 2")


def test_options_that_a_measurement_does_not_take_are_left_out():
    class Arguments:
        gin, bind, batch, device = "gin/a.gin", ["A.b = 1"], 8, "cpu"

    words = Measurement("x", "step", ("--batch", "4")).words(Arguments)
    assert words == ["step", "--gin", "gin/a.gin", "--bind", "A.b = 1", "--device", "cpu", "--batch", "4"]
    assert Measurement("x", "overhead", steps=False).words(Arguments) == ["overhead"]


def test_a_table():
    text = table([{"way": "a|b", "ms": 12345.6, "flops": 3}, {"way": "c", "exponents": {"ms": 1.5e-4, "n": 1000}}])
    assert text.splitlines() == [
        "| way | ms | n |",
        "|---|---|---|",
        "| a\\|b | 12,346 | - |",
        "| c | 1.50e-04 | 1,000 |",
    ]
