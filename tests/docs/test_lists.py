"""Lists in the pages are complete: rooms, recipes, teachers, metrics, old names, extras."""

import ast
import re
from graphlib import TopologicalSorter

from realuid.config import renames
from realuid.config.catalogue import kind_of
from realuid.config.registry import kinds, register_components
from tests.docs.blocks import ROOT

PACKAGE = ROOT / "realuid"


def text(name):
    return (ROOT / name).read_text()


def rooms():
    """In the order of the map in docs/design.md."""
    section = text("docs/design.md").split("## Rooms")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_map_has_every_room():
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(rooms()) == sorted(there)
    assert len(there) <= 25


def test_a_room_imports_only_from_rooms_above_it():
    order = {room: number for number, room in enumerate(rooms())}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for name in imported(ast.parse(path.read_text())):
            other = name.split(".")[1] if "." in name else ""
            if room in order and other in order:
                assert order[other] <= order[room], f"{path.relative_to(ROOT)} imports {name}, a room further down"


def imported(tree):
    """Names of modules of the package that are imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("realuid."):
            yield node.module
        elif isinstance(node, ast.ImportFrom) and node.module == "realuid":
            yield from (f"realuid.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("realuid."))


def test_modules_lie_in_rooms_and_are_short():
    """Rooms are packages; none of their files is longer than 300 lines."""
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {file: lines for file, lines in lengths.items() if lines > 300} == {}


def test_modules_import_each_other_in_no_circle():
    """A package is what its __init__.py imports."""
    files = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {name: set(named_modules(ast.parse(path.read_text()), files)) - {name} for name, path in files.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(files)


def named_modules(tree, known):
    """Those of the `known` modules that a file imports, or imports names of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                places = f"{node.module}.{alias.name}", node.module
                yield from [place for place in places if place in known][:1]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def test_every_recipe_and_every_teacher_is_named():
    recipes = {path.stem for path in (ROOT / "gin").glob("*.gin")}
    assert recipes <= set(re.findall(r"`(\w+)`", text("docs/recipes.md")))
    teachers = {path.stem for path in (ROOT / "gin" / "teachers").glob("*.gin")}
    assert teachers <= set(re.findall(r"`(\w+)`", text("docs/pretrained.md")))


def test_every_metric_is_explained():
    register_components()
    metrics = {kind.name for kind in kinds() if kind_of(kind) in ("Metric", "PairMetric", "FeatureNetwork")}
    assert metrics <= set(re.findall(r"`(\w+)`", text("docs/metrics.md")))


def test_every_kind_that_the_page_of_frameworks_names_exists():
    register_components()
    there = {kind_of(kind) for kind in kinds()}
    section = text("docs/frameworks.md").split("## Pieces")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `[\w.]+` \| `(\w+)` \|", section, re.MULTILINE))
    assert len(named) > 7
    assert named <= there


def test_every_old_name_is_in_the_changelog():
    changes = text("CHANGELOG.md")
    networks = ("height", "inputs")
    for old in [f"@{name}()" for name in renames.COMPONENTS]:
        assert f"`{old}`" in changes, old
    for component, argument in [*renames.ARGUMENTS, *renames.DROPPED]:
        old = argument if argument in networks else f"{component}.{argument}"
        assert f"`{old}`" in changes, old
