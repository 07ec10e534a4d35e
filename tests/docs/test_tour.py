"""Every file and every name of the tour exists. What it prints is compared in test_pages.py."""

import importlib
import inspect
import pkgutil
import re

import pytest

import realuid
from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs" / "tour.md").read_text()
ROWS = re.findall(r"^\| [^|]+ \| `(realuid/[^`]+)\.py` \| ([^|]+) \|", TEXT, re.MULTILINE)


def resolved(thing, name):
    """Whether `name` is something of a module or a class, a dataclass's fields and annotations among them."""
    first, _, rest = name.partition(".")
    if rest:
        return resolved(getattr(thing, first), rest)
    return hasattr(thing, first) or first in getattr(thing, "__annotations__", {})


@pytest.mark.parametrize(("file", "names"), ROWS)
def test_the_stations_exist(file, names):
    module = importlib.import_module(file.replace("/", "."))
    for name in re.findall(r"`([^`]+)`", names):
        assert resolved(module, name), f"{file}.py has no {name}"


def test_every_station_is_checked():
    assert len(ROWS) == TEXT.count("| `realuid/")


def test_every_file_exists():
    for name in re.findall(r"`((?:realuid|gin|tools|docs|tests)/[\w/.]+)`", TEXT):
        assert (ROOT / name).exists(), name


def test_every_name_in_a_sentence_exists():
    """`Class` and `Class.method` are somewhere in the package."""
    classes = {}
    for module in pkgutil.walk_packages(realuid.__path__, "realuid."):
        if ".benchmarks" not in module.name and ".recipes" not in module.name:
            classes |= dict(inspect.getmembers(importlib.import_module(module.name), inspect.isclass))
    sentences = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for name in re.findall(r"`([A-Z]\w*[a-z]\w*(?:\.\w+)?)`", sentences) + re.findall(r"`(EMA\.\w+)`", sentences):
        first, _, rest = name.partition(".")
        assert first in classes, name
        assert not rest or resolved(classes[first], rest), name
