"""The traps of gin-config, and of a folder that has its name."""

from __future__ import annotations

import runpy
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import gin
import pytest

from realuid.config import Config, ConfigError, build, files, register_components, registry

REPOSITORY = Path(__file__).resolve().parents[2]
COMPONENTS = '''
from __future__ import annotations

import gin

from realuid.config import Config, build

__all__ = ["Bolt", "Crane", "Hook", "Nested", "Yard"]


class Bolt:
    def __init__(self, *, size: int = 1, angry: bool = False) -> None:
        if angry:
            raise RuntimeError("bolt")
        self.size = size


class Hook:
    def __init__(self, *, bolt: Bolt) -> None:
        self.bolt = bolt


class Nested(Hook):
    """Builds a part from a configuration of its own, as a teacher may."""

    def __init__(self, *, text: str) -> None:
        self.bolt = build(Config.from_text(text, root="Bolt"))


class Crane:
    def __init__(self, *, hook: Hook, bolts: list[Bolt] | None = None) -> None:
        self.hook, self.bolts = hook, bolts


class Yard:
    def __init__(self, *, left: Crane, right: Crane | None = None) -> None:
        self.left, self.right = left, right
        self.built = set(gin.config._OPERATIVE_CONFIG)
'''
YARD = """
import toy_yard
Yard.left = @left/Crane()
Yard.right = @right/deep/Crane()
Crane.hook = @Hook()
Crane.bolts = [@Bolt(), @other/Bolt()]
Hook.bolt = @Bolt()
right/Hook.bolt = @spare/Bolt()
Bolt.size = 2
right/deep/Bolt.size = 3
other/Bolt.size = 4
"""


@pytest.fixture(scope="module", autouse=True)
def _components(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yard")
    (folder / "toy_yard.py").write_text(COMPONENTS)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def toys_only(monkeypatch):
    monkeypatch.setattr(registry, "COMPONENT_MODULES", ())


def yard(text: str = "", root: str = "Yard") -> Config:
    return Config.from_text(YARD + text, root=root, allowed=["toy_yard"])


def gin_is_clean() -> bool:
    return not gin.config._CONFIG and not gin.config._OPERATIVE_CONFIG and not gin.current_scope()


@pytest.mark.usefixtures("toys_only")
def test_the_components_found_on_paper_are_those_that_gin_builds():
    from realuid.config.registry import find
    from realuid.config.usage import _places

    config = yard()
    on_paper = {(scope, find(name).selector) for scope, name in _places(config.table, "Yard")}
    assert build(config).built == on_paper


@pytest.mark.usefixtures("toys_only")
def test_scopes_are_inherited_and_a_scoped_reference_replaces_them():
    built = build(yard())
    assert [bolt.size for bolt in built.left.bolts] == [2, 4]
    assert [bolt.size for bolt in built.right.bolts] == [3, 4]
    assert (built.left.hook.bolt.size, built.right.hook.bolt.size) == (2, 2)


@pytest.mark.usefixtures("toys_only")
def test_a_macro_stands_for_its_text_and_keeps_the_scope():
    """Gin itself would build `%HOOK` in a scope called HOOK, and the role would be lost."""
    built = build(yard("HOOK = @Hook()\nleft/Crane.hook = %HOOK\nleft/Bolt.size = 9"))
    assert built.left.hook.bolt.size == 9


@pytest.mark.usefixtures("toys_only")
def test_direct_construction_is_never_changed_by_bindings():
    config = yard()
    import toy_yard

    assert toy_yard.Bolt().size == 1
    with gin.unlock_config():
        gin.bind_parameter("Bolt.size", 5)
    assert toy_yard.Bolt().size == 1
    gin.clear_config()
    build(config)
    assert toy_yard.Bolt().size == 1


@pytest.mark.usefixtures("toys_only")
def test_gin_is_clean_after_building_and_after_errors():
    build(yard())
    assert gin_is_clean()
    with pytest.raises(RuntimeError, match=r"^bolt$"):
        build(yard("spare/Bolt.angry = True"))
    assert gin_is_clean()
    with pytest.raises(ConfigError):
        yard("Bolt.angry = 3")
    assert gin_is_clean()
    assert build(yard()).left.hook.bolt.size == 2


@pytest.mark.usefixtures("toys_only")
def test_a_constructor_may_build_from_a_configuration_of_its_own():
    built = build(yard("left/Crane.hook = @left/Nested()\nNested.text = 'Bolt.size = 7'"))
    assert built.left.hook.bolt.size == 7
    assert [bolt.size for bolt in built.right.bolts] == [3, 4]
    assert gin_is_clean()


def test_recipes_lie_beside_the_package_or_installed_inside_it(tmp_path, monkeypatch):
    assert files.recipe_folder() == REPOSITORY / "gin"
    monkeypatch.setattr(files, "_PACKAGE", tmp_path)
    (tmp_path / "recipes").mkdir()
    assert files.recipe_folder() == tmp_path / "recipes"


def test_the_folder_of_gin_files_holds_nothing_else():
    others = [path for path in (REPOSITORY / "gin").rglob("*") if path.is_file() and path.suffix != ".gin"]
    assert not others


def test_gin_is_the_package_even_in_the_repository():
    code = "import gin; print(hasattr(gin, 'configurable'), gin.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    genuine, file = found.stdout.split()
    assert genuine == "True"
    assert not Path(file).is_relative_to(REPOSITORY / "gin")


def test_the_folder_in_place_of_the_package_is_recognised(monkeypatch):
    monkeypatch.setitem(sys.modules, "gin", types.ModuleType("gin"))
    with pytest.raises(
        ImportError, match=r"the folder ./gin was imported instead of gin-config; pip install gin-config"
    ):
        runpy.run_path(str(REPOSITORY / "realuid" / "config" / "_gin.py"))


def test_gin_is_imported_in_one_place():
    importing = [
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("realuid", "tools")
        for path in (REPOSITORY / folder).rglob("*.py")
        if any(line.strip().startswith(("import gin", "from gin")) for line in path.read_text().splitlines())
    ]
    assert importing == ["realuid/config/_gin.py"]


def test_two_components_of_one_name_are_a_mistake_of_ours(tmp_path, monkeypatch):
    (tmp_path / "toy_bolts.py").write_text("__all__ = ['Bolt']\nclass Bolt: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "COMPONENT_MODULES", ("toy_yard", "toy_bolts"))
    with pytest.raises(ValueError, match=r"toy_bolts.Bolt has the name of toy_yard.Bolt; names must be unique"):
        register_components()


def test_the_components_of_the_project():
    # The real registry, so this test needs every module of the project. Registering refuses **kwargs and namesakes.
    register_components()
    ours = [kind for kind in registry.kinds() if kind.selector.startswith("realuid.")]
    assert ours
    assert not [name for name, count in Counter(kind.target.__name__ for kind in ours).items() if count > 1]
    for kind in ours:
        assert all(parameter.hint is not registry.Any for parameter in kind.parameters.values()), kind.name
        assert vars(kind.target).get("free_on_resume", frozenset()) <= kind.parameters.keys(), kind.name
