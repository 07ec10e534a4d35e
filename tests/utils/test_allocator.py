"""Freed memory is used again instead of being asked for again: counted in pages that the kernel had to bring."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from realuid.utils.allocator import hold_freed_memory
if {hold}:
    hold_freed_memory()
def work():
    kept = [b"x" * (4 << 20) for _ in range(8)]
for _ in range(5):  # until the blocks have found their places
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


EAGER = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""What glibc starts with; it moves these as it goes, so that what it does would depend on what went before."""


def faults(hold: bool) -> int:
    command = [sys.executable, "-c", PROGRAM.format(hold=hold)]
    run = subprocess.run(command, env=os.environ | EAGER, capture_output=True, text=True, check=True, timeout=120)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_is_not_brought_by_the_kernel_again():
    pages = 8 * (4 << 20) // 4096
    assert faults(hold=False) > 5 * pages
    assert faults(hold=True) < pages
