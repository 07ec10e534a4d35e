"""The other benchmarks in small: they measure what they say. Speeds are no test's business."""

import itertools
import json

import pytest
import torch

from realuid.benchmarks import overhead
from realuid.benchmarks.growth import exponent
from realuid.benchmarks.sample import fitting
from realuid.commands.benchmark import main

CPU = torch.device("cpu")
TINY = [
    *("--gin", "gin/fm_cifar10.gin", "--device", "cpu", "--rounds", "1", "--bind", "SHAPE = (3, 8, 8)"),
    *("--bind", "UNet.width = 16", "--bind", "UNet.multipliers = (1, 2)", "--bind", "UNet.blocks = 1"),
    *("--bind", "UNet.head_channels = 16", "--bind", "Distillation.fake_steps = 1", "--bind", "Euler.steps = 2"),
]


def lines(capsys, *arguments: str) -> list[dict]:
    assert main(list(arguments)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_the_loops_own_share(capsys):
    """Shares of what a run spends; of a step that is nearly all arithmetic, the loop's own is the smaller part."""
    (line,) = lines(capsys, "overhead", "--gin", "gin/smoke.gin", "--steps", "2", "--starts", "0")
    assert 0 < line["own_share"] < 0.5
    assert 0 < line["data_share"] < 0.5
    assert "start_s" not in line


def test_a_stopwatch_counts_nested_work_once(monkeypatch):
    """By clocks that advance by one whenever they are read."""
    for clock in ("perf_counter", "process_time"):
        monkeypatch.setattr(overhead.time, clock, itertools.count().__next__)
    watch = overhead.Stopwatch()
    nested = watch.around(watch.around(lambda: None))
    nested()
    assert (watch.wall, watch.cpu) == (1, 1)
    nested()
    assert (watch.wall, watch.cpu) == (2, 2)


def test_the_batch_that_fits():
    asked = []

    def work(batch: int) -> None:
        asked.append(batch)
        if batch > 4:
            raise torch.OutOfMemoryError

    batch, speed = fitting(work, CPU, most=64, rounds=1)
    assert batch in (1, 2, 4)
    assert speed > 0
    with pytest.raises(torch.OutOfMemoryError):
        fitting(lambda batch: work(batch + 4), CPU, most=64, rounds=1)


def test_student_and_teacher_are_sampled(capsys):
    _, student, teacher = lines(capsys, "sample", *TINY, "--most", "1")
    assert (student["role"], student["sampler"], student["batch"]) == ("student", "OneStep", 1)
    assert (teacher["role"], teacher["batch"]) == ("teacher", 1)
    assert min(student["images_per_s"], teacher["images_per_s"]) > 0


@pytest.mark.slow
def test_arithmetic_grows_with_the_batch(capsys):
    _, one, two, fit = lines(capsys, "growth", *TINY, "--axes", "batch", "--batch", "4", "16")
    assert (one["batch"], two["batch"]) == (4, 16)
    assert fit["exponents"]["flops"] == pytest.approx(1, abs=0.01)
    assert 0 < fit["exponents"]["memory_mib"] < 1.01


@pytest.mark.exhaustive
def test_a_set_held_in_memory_grows_and_a_streamed_one_does_not(capsys):
    _, small, large, fit = lines(capsys, "growth", *TINY, "--axes", "images", "--images", "500", "8000")
    assert (small["images"], large["images"]) == (500, 8000)
    assert large["in_memory_mib"] - small["in_memory_mib"] > 0.8 * 7500 * 3 * 32 * 32 / 2**20
    assert large["streamed_mib"] < 0.2 * large["in_memory_mib"]
    assert fit["exponents"]["in_memory_open_ms"] > 0.5


def test_exponents():
    assert exponent([1, 2, 4], [3, 12, 48]) == 2
    assert exponent([1, 2], [5, 5]) == 0
    assert exponent([1, 2], [0, 5]) is None


@pytest.mark.exhaustive
def test_a_process_of_two_computes_what_a_single_one_does(capsys):
    _, one, two, _ = lines(capsys, "growth", *TINY, "--axes", "processes", "--batch", "2", "--processes", "1", "2")
    assert two["flops"] == one["flops"]
    assert two["memory_mib"] < 3 * one["memory_mib"]  # buckets of gradients weigh as much as so small a network
