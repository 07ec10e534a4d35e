"""A plug-in of pytest: writes what an environment skipped, a line each, into the file that SKIPPED names."""

import os
import re


def pytest_collectreport(report):
    _note(report)


def pytest_runtest_logreport(report):
    _note(report)


def _note(report):
    if report.skipped:
        with open(os.environ["SKIPPED"], "a") as file:
            file.write(re.sub(r"@\w+$", "", report.nodeid) + "\n")  # without pytest-xdist's group
