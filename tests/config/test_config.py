"""What a user sees of configurations: files, bindings, refusals, comparison, the tree, and building."""

from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path

import pytest

from realuid.config import Config, ConfigError, build, differences, files, load, registry, tree
from realuid.config.language import read_binding

COMPONENTS = '''
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

__all__ = ["Crate", "Fussy", "Gauge", "Gear", "Liar", "Motor", "Paint", "Press", "Robot", "Tool", "Workshop"]


class Tool:
    """The base of Robot and Press."""


class Gear(torch.nn.Module):
    def __init__(self, *, teeth: int, scale: float = 1.0) -> None:
        super().__init__()
        if teeth < 1:
            raise ValueError("a gear has teeth")
        self.wheel = torch.nn.Linear(teeth, teeth)
        self.scale = scale


class Motor(torch.nn.Module):
    def __init__(self, *, gear: Gear, spare: Gear | None = None, name: str = "m") -> None:
        super().__init__()
        self.gear, self.spare, self.name = gear, spare, name


@dataclass(frozen=True, kw_only=True)
class Paint:
    gloss: float
    colour: Literal["red", "green"] = "red"

    def __post_init__(self) -> None:
        if not 0 <= self.gloss <= 1:
            raise ValueError(f"gloss must be in [0, 1],\\ngot {self.gloss}")


class Robot(Tool):
    def __init__(self, *, motor: Motor | None = None, inner: Robot | None = None) -> None:
        self.motor, self.inner = motor, inner


class Press(Tool):
    def __init__(self, *, sizes: tuple[int, ...] = (1, 2), force: float | None = None) -> None:
        self.sizes, self.force = sizes, force


class Crate(Tool):
    def __init__(self, *, width: int, height: int, lid: Gauge, label: str, trouble: str) -> None:
        raise ValueError(trouble)


class Fussy(Tool):
    def __init__(self) -> None:
        open("no.such")


class Gauge:
    def __init__(self, *, count: int = 3) -> None:
        self.count = count


class Liar(Tool):
    def __init__(self) -> None:
        raise RuntimeError("not for users")


class Workshop:
    free_on_resume: ClassVar[frozenset[str]] = frozenset({"log_every", "gauge"})

    def __init__(
        self,
        *,
        paint: Paint,
        tools: tuple[Tool, ...] = (),
        table: dict[str, Tool] | None = None,
        days: int = 5,
        open: bool = True,
        title: str = "none",
        shifts: Sequence[int] = (8, 16),
        rates: list[float] | None = None,
        log_every: int = 1,
        gauge: Gauge | None = None,
    ) -> None:
        self.paint, self.tools, self.table, self.days, self.open = paint, tools, table, days, open
        self.title, self.shifts, self.rates, self.log_every, self.gauge = title, shifts, rates, log_every, gauge
'''
BASE = """
import toy_workshop

GLOSS = 0.5

Workshop.paint = @Paint()
Workshop.tools = [@left/Robot(), @right/Robot()]
Paint.gloss = %GLOSS
Robot.motor = @Motor()
Motor.gear = @Gear()
Gear:
    teeth = 4
right/Gear.teeth = 8
"""


@pytest.fixture(scope="session", autouse=True)
def _components(tmp_path_factory):
    """The module `toy_workshop`, and two plug-ins that have a class of one name."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "toy_workshop.py").write_text(COMPONENTS)
    twin = (
        "__all__ = ['Twin']\nclass Twin:\n    def __init__(self, *, size: int = 1) -> None:\n        self.size = size\n"
    )
    (folder / "toy_first.py").write_text(twin)
    (folder / "toy_second.py").write_text("import gin\n" + twin.replace("class", "@gin.register\nclass"))
    (folder / "toy_greedy.py").write_text("__all__ = ['Greedy']\nclass Greedy:\n    def __init__(self, **rest): ...\n")
    (folder / "toy_broken.py").write_text("import no_such_module\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty working directory with a recipe folder of its own; the project's components stay out of it."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "recipe_folder", lambda: tmp_path / "recipes")
    monkeypatch.setattr(registry, "COMPONENT_MODULES", ())
    Path("base.gin").write_text(BASE)
    return tmp_path


def loaded(*bindings: str, text: str = "") -> Config:
    Path("own.gin").write_text(f"include 'base.gin'\n{text}")
    return load(["own.gin"], bindings, root="Workshop")


def refused(*bindings: str, text: str = "") -> str:
    """The message that refuses the bindings, when loading or else when building; always a single line."""
    with pytest.raises(ConfigError) as caught:
        build(loaded(*bindings, text=text))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_builds_what_the_file_says():
    workshop = build(loaded("Workshop.days = 7"))
    assert workshop.days == 7
    assert workshop.paint.gloss == 0.5
    left, right = workshop.tools
    assert left.motor.gear.wheel.in_features == 4
    assert right.motor.gear.wheel.in_features == 8  # the scope of the role reaches the parts of its parts


def test_instances_are_of_the_plain_classes_and_pickle():
    import toy_workshop

    workshop = build(loaded())
    assert type(workshop) is toy_workshop.Workshop
    assert type(workshop.paint) is toy_workshop.Paint
    assert type(workshop.tools[1].motor.gear) is toy_workshop.Gear
    copy = pickle.loads(pickle.dumps(workshop))
    assert copy.paint == workshop.paint
    assert copy.tools[1].motor.gear.wheel.in_features == 8


def test_values_arrive_in_the_annotated_type():
    workshop = build(loaded("Workshop.shifts = [1, 2]", "Workshop.rates = (1, 2.5)", "Paint.gloss = 1"))
    assert workshop.shifts == (1, 2)
    assert workshop.rates == [1.0, 2.5]
    assert type(workshop.paint.gloss) is float
    assert isinstance(workshop.tools, tuple)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("s3://bucket/x.pt", "s3://bucket/x.pt"),
        ("/a/b/{000..012}.tar", "/a/b/{000..012}.tar"),
        ("'quoted'", "quoted"),
        ('"a = b"', "a = b"),
        ("it's", "it's"),
        ("a=b", "a=b"),
        ("%TITLE", "from a macro"),
    ],
)
def test_a_string_of_the_command_line_needs_no_quotes(written, value):
    macro = ["TITLE = from a macro"] if written == "%TITLE" else []
    assert build(loaded(*macro, f"Workshop.title={written}")).title == value


@pytest.mark.parametrize("written", ["none", "None", "NULL"])
def test_none_in_any_case(written):
    assert build(loaded("Workshop.rates = [1.0]", f"Workshop.rates = {written}")).rates is None


def test_other_bare_values():
    bindings = ["Workshop.open = FALSE", "GLOSS = 1e-1", "Workshop.tools = [@Press(), @left/Robot()]"]
    workshop = build(loaded(*bindings, "Workshop.shifts = 1, 2", "Workshop.table = {'p': @Press()}"))
    assert (workshop.open, workshop.paint.gloss, workshop.shifts) == (False, 0.1, (1, 2))
    assert workshop.tools[0].sizes == workshop.table["p"].sizes == (1, 2)


@pytest.mark.parametrize(("written", "number"), [("1e400", math.inf), ("-1e999", -math.inf)])
def test_an_infinite_number_of_the_command_line(written, number):
    """As in a gin file; Python would write it as `inf`, which is a name."""
    assert read_binding(f"Workshop.glow = {written}").value == number
    assert read_binding(f"Workshop.glow = (1, {written})").value == (1, number)


# Files


def test_the_flattened_text_reads_back_to_itself():
    config = loaded("Workshop.title = it's", "right/Gear.scale = -2")
    again = Config.from_text(config.text, "again", root="Workshop", allowed=["toy_workshop"])
    assert again.text == config.text
    assert again.bindings == config.bindings
    assert again.digest() == config.digest()
    assert again.name == "again"
    assert config.name == "own"
    assert config.text.startswith("import toy_workshop\n\nGLOSS = 0.5\n\nGear.teeth = 4\nright/Gear.scale = -2\n")
    assert pickle.loads(pickle.dumps(config)).text == config.text


def test_the_text_does_not_depend_on_the_order_of_statements():
    lines = [line for line in loaded().text.splitlines() if line]
    shuffled = [lines[0], *reversed(lines[1:])]
    again = Config.from_text("\n".join(shuffled), root="Workshop", allowed=["toy_workshop"])
    assert again.text == loaded().text


def test_bindings_and_where_they_come_from():
    config = loaded("Paint.gloss = 1")
    assert config.bindings["right/Gear.teeth"] == "8"
    assert config.bindings["Workshop.tools"] == "[@left/Robot(), @right/Robot()]"
    assert config.provenance["right/Gear.teeth"] == "base.gin:13"
    assert config.provenance["Gear.teeth"] == "base.gin:12"
    assert config.provenance["Paint.gloss"] == "--bind"


def test_includes_and_recipes_are_found_from_anywhere(place, monkeypatch):
    (place / "recipes" / "parts").mkdir()
    (place / "recipes" / "parts" / "gears.gin").write_text("Gear.teeth = 3\n")
    (place / "recipes" / "parts" / "motor.gin").write_text("include 'gears.gin'\nMotor.name = 'beside'\n")
    (place / "recipes" / "whole.gin").write_text(f"{BASE}\ninclude 'gin/parts/motor.gin'\n")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    for name in ("gin/whole.gin", "whole.gin", str(place / "recipes" / "whole.gin")):
        workshop = build(load([name], root="Workshop"))
        assert workshop.tools[0].motor.name == "beside"
        assert workshop.tools[0].motor.gear.wheel.in_features == 3


def test_later_files_win():
    Path("more.gin").write_text("Gear.teeth = 5\n")
    assert load(["base.gin", "more.gin"], root="Workshop").bindings["Gear.teeth"] == "5"


def test_a_replaced_component_may_leave_its_numbers_behind():
    config = loaded("Workshop.tools = (@Press(),)", "Paint.gloss = 0.25")
    assert "Gear.teeth" not in config.text
    assert "GLOSS" not in config.text
    assert build(config).tools[0].sizes == (1, 2)


def test_a_number_given_after_its_component_was_replaced_is_refused():
    assert "--bind: Gear.teeth = 9: nothing uses it" in refused("Workshop.tools = (@Press(),)", "Gear.teeth = 9")


def test_missing_files_name_the_nearest_recipe(place, caplog):
    (place / "recipes" / "smoke.gin").write_text(BASE)
    with pytest.raises(ConfigError, match=r"^--gin 'gin/smok.gin': there is no such file; did you mean smoke.gin\?$"):
        load(["gin/smok.gin"])
    assert "own.gin:2: include 'smoke': there is no such file; did you mean smoke.gin?" in refused(
        text="include 'smoke'"
    )
    assert not caplog.records


def test_a_circle_of_includes():
    Path("one.gin").write_text("include 'two.gin'\n")
    Path("two.gin").write_text("include 'one.gin'\n")
    with pytest.raises(
        ConfigError, match=r"two.gin: files include each other in a circle: one.gin > two.gin > one.gin"
    ):
        load(["one.gin"])


def test_a_file_that_is_no_text():
    Path("model.pt").write_bytes(b"\x80\x02\xff")
    with pytest.raises(ConfigError, match=r"model.pt: cannot be read as a gin file"):
        load(["model.pt"])


def test_no_file():
    with pytest.raises(ConfigError, match="no gin file"):
        load([])


# Refusals


def test_syntax_errors_name_the_line():
    assert "own.gin:2: Workshop.title = bare: bare is not a value; write 'bare'" in refused(
        text="Workshop.title = bare"
    )
    assert "own.gin:2: Workshop.open = true: true is not a value; write True" in refused(text="Workshop.open = true")
    for line in ("Workshop.days = 2*3", "Workshop.days: 6", "Workshop.days == 6"):
        assert f"own.gin:3: {line}: " in (told := refused(text=f"\n{line}"))
        assert "a binding is Name.argument = value, and a number is written out" in told
    assert "is a bracket or a quote left open?" in refused(text="Workshop.shifts = (1,")
    assert "--bind 'Workshop.tools = @Press('" in refused("Workshop.tools = @Press(")


@pytest.mark.parametrize("text", ["", "Paint.gloss", "= 3", "Paint.gloss =", "include 'base.gin'"])
def test_a_binding_of_another_form(text):
    assert 'write it as "Name.argument = value"' in refused(text)


def test_unknown_names():
    assert "own.gin:2: Pant.gloss = 1: there is no component 'Pant'; did you mean Paint" in refused(
        text="Pant.gloss = 1"
    )
    assert "--bind: Workshop.paint = @pain(): there is no component 'pain'; did you mean Paint?" in refused(
        "Workshop.paint = @pain()"
    )
    assert "Paint has no argument 'glos'; did you mean gloss?" in refused("Paint.glos = 1")
    assert "Paint has no argument 'xyz'; it has gloss, colour" in refused("Paint.xyz = 1")
    assert "there is no macro 'GLOS'; did you mean GLOSS?" in refused("Paint.gloss = %GLOS")
    with pytest.raises(ConfigError, match=r"base: there is no component 'Workshp'; did you mean Workshop\?"):
        load(["base.gin"], root="Workshp")


def test_gin_names_of_its_own_are_no_components():
    assert "there is no component 'gin.singleton'" in refused("Workshop.paint = @one/gin.singleton()")


def test_ambiguous_names():
    text = "import toy_first\nimport toy_second\n"
    assert "'Twin' is the name of several components: toy_first.Twin and toy_second.Twin" in refused(
        text=f"{text}Twin.size = 2"
    )
    Path("own.gin").write_text(f"{text}toy_first.Twin.size = 2")
    config = load(["own.gin"], root="toy_first.Twin")
    assert config.bindings == {"toy_first.Twin.size": "2"}
    assert build(config).size == 2


def test_plugins_that_cannot_be_used():
    assert (
        "own.gin:2: import no_such: No module named 'no_such'; install it, or put its folder on PYTHONPATH"
        in refused(text="import no_such")
    )
    assert "import toy_broken: No module named 'no_such_module'" in refused(text="import toy_broken")
    assert "own.gin:2: import toy_greedy: toy_greedy.Greedy takes **kwargs" in refused(text="import toy_greedy")


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("Workshop.days = 1.5", "int expected, not 1.5"),
        ("Workshop.days = 1e3", "int expected, not 1000.0; write 1000"),
        ("Workshop.days = True", "int expected, not True"),
        ("Paint.gloss = true", "float expected, not True"),
        ("Paint.gloss = high", "float expected, not 'high'"),
        ("Workshop.shifts = 8", "Sequence[int] expected, not 8; write (8,)"),
        ("Workshop.shifts = abc", "Sequence[int] expected, not 'abc'"),
        ("Workshop.shifts = (8, 1.5)", "Sequence[int] expected, not (8, 1.5)"),
        ("Workshop.rates = [True]", "list[float] or None expected, not [True]"),
        ("Workshop.title = 3", "str expected, not 3; write '3'"),
        ("Workshop.open = 1", "bool expected, not 1"),
        ("Paint.colour = blue", "one of 'red', 'green' expected, not 'blue'"),
        ("Workshop.table = {'a': 3}", "dict[str, Tool] or None expected, not {'a': 3}"),
        ("Workshop.days = %GLOSS", "int expected, not 0.5 (GLOSS = 0.5 in base.gin:4)"),
        ("Workshop.paint = 3", "Paint expected, not 3"),
        ("Workshop.paint = @Press()", "Paint expected, not @Press(); one of @Paint() would do"),
        ("Workshop.days = @Press()", "int expected, not @Press()"),
        ("Workshop.tools = (@Press(), @Paint())", "tuple[Tool, ...] expected, not (@Press(), @Paint())"),
        ("Motor.spare = @Press()", "Gear or None expected, not @Press(); one of @Gear() would do"),
        ("Workshop.tools = @Press()", "tuple[Tool, ...] expected, not @Press(); write (@Press(),)"),
        ("Workshop.paint = @Paint", "@Paint is not built, and components are handed over built; write @Paint()"),
    ],
)
def test_values_of_another_type(binding, expected):
    message = refused(binding)
    assert message.startswith("--bind: " + binding.split(" = ")[0])
    assert message.endswith(expected)


def test_references_where_a_base_class_is_asked_for_are_welcome():
    config = loaded(
        "Workshop.tools = (@Press(), @right/Robot())", "Motor.spare = @Gear()", "Workshop.table = {'a': @Press()}"
    )
    assert config.bindings["Motor.spare"] == "@Gear()"


def test_what_nothing_uses_is_found():
    assert "--bind: rihgt/Gear.scale = 2: no Gear is built in scope 'rihgt'; did you mean right?" in refused(
        "rihgt/Gear.scale = 2"
    )
    assert "own.gin:2: Press.force = 2.0: nothing uses it, for no @Press() is part of Workshop" in refused(
        text="Press.force = 2.0"
    )
    assert "--bind: GLOS = 1: no binding uses the macro %GLOS; did you mean GLOSS?" in refused("GLOS = 1")
    assert "no Paint is built in scope 'left'; it is built in no scope" in refused("left/Paint.gloss = 1")


def test_bindings_that_are_used_through_scopes_and_macros():
    loaded("left/Motor.name = l", "TEETH = 3", "SAME = %TEETH", "left/Gear.teeth = %SAME")
    loaded("TOOLS = [@left/Robot(), @right/Robot()]", "Workshop.tools = %TOOLS")


def test_missing_arguments():
    Path("own.gin").write_text("import toy_workshop\nWorkshop.tools = [@a/Robot()]\nRobot.motor = @Motor()\n")
    with pytest.raises(ConfigError, match=r"^own: Workshop needs a value for Workshop.paint$"):
        load(["own.gin"], root="Workshop")
    with pytest.raises(ConfigError) as caught:
        load(["own.gin"], ["Workshop.paint = @Paint()", "Paint.gloss = 1"], root="Workshop")
    assert str(caught.value) == "own.gin:3: Robot.motor = @Motor(): Motor needs a value for a/Motor.gear"


def test_circles():
    assert "own.gin:2: s/Robot.inner = @s/Robot(): components refer to each other in a circle: s/Robot > s/Robot" in (
        refused(text="s/Robot.inner = @s/Robot()\nWorkshop.tools = [@s/Robot()]")
    )
    assert "macros refer to each other in a circle: A > B > A" in refused("A = %B", "B = %A", "Workshop.days = %A")


def test_the_complaint_of_a_constructor_comes_with_its_place():
    assert refused("GLOSS = 3", "Paint.colour = red") == (
        "Workshop.paint > Paint: gloss must be in [0, 1], got 3.0 "
        "[Paint.gloss = %GLOSS (base.gin:8), GLOSS = 3 (--bind)]"
    )
    assert refused("right/Gear.teeth = -1") == (
        "Workshop.tools[1] > right/Robot.motor > right/Motor.gear > right/Gear: a gear has teeth "
        "[right/Gear.teeth = -1 (--bind)]"
    )
    assert refused("Workshop.table = {'a': @Press(), 'b': @Fussy()}") == (
        "Workshop.table['b'] > Fussy: [Errno 2] No such file or directory: 'no.such' "
        "[Workshop.table = {'a': @Press(), 'b': @Fussy()} (--bind)]"
    )


def test_the_complaint_of_a_constructor_shows_what_it_speaks_of():
    """Arguments, or components that are bound to them; of a component with many bindings not all."""
    place = "Workshop.tools[0] > Crate: "
    bindings = ["Workshop.tools = [@Crate()]", "Crate.width = 5", "Crate.height = 6", "Crate.lid = @Gauge()"]
    bindings += ["Crate.label = 'x'", "Crate.trouble = "]
    *others, trouble = bindings
    for text, shown in {
        "the height is odd": "Crate.height = 6 (--bind)",
        "a Gauge is no lid": "Crate.lid = @Gauge() (--bind)",
        "it is full": "Workshop.tools = [@Crate()] (--bind)",
    }.items():
        assert refused(*others, f"{trouble}'{text}'") == f"{place}{text} [{shown}]"


def test_other_exceptions_come_out_as_they_were_raised():
    with pytest.raises(RuntimeError) as caught:
        build(loaded("Workshop.tools = [@Liar()]"))
    assert type(caught.value) is RuntimeError
    assert str(caught.value) == "not for users"


# Comparison


def test_differences_are_those_of_the_result():
    old = loaded()
    assert differences(old, loaded("Gear.teeth = 5", "right/Gear.scale = 2")) == [
        "Gear.teeth: 4 -> 5",
        "right/Gear.scale: 1.0 -> 2.0",
    ]
    assert differences(loaded("Workshop.days = 9"), old) == ["Workshop.days: 9 -> 5"]
    assert differences(old, loaded("GLOSS = 1")) == ["Paint.gloss: 0.5 -> 1.0"]


@pytest.mark.parametrize(
    "bindings",
    [
        ["Workshop.log_every = 100"],
        ["Workshop.gauge = @Gauge()", "Gauge.count = 5"],
        ["EVERY = 3", "Workshop.log_every = %EVERY"],
        ["Workshop.days = 5"],
        ["Workshop.shifts = [8, 16]"],
        ["Gear.scale = 1"],
        ["left/Gear.teeth = 4"],
        ["SHINE = 0.5", "Paint.gloss = %SHINE"],
        ["Paint.gloss = 0.5"],
        ["Workshop.paint = @toy_workshop.Paint()"],
    ],
)
def test_what_does_not_change_the_result(bindings):
    old, new = loaded(), loaded(*bindings)
    assert differences(old, new) == differences(new, old) == []
    assert old.digest() == new.digest()


@pytest.mark.parametrize(
    "binding", ["Gear.teeth = 5", "right/Gear.teeth = 4", "GLOSS = 1", "Workshop.tools = [@Press()]"]
)
def test_what_changes_the_result(binding):
    assert differences(loaded(), loaded(binding))
    assert loaded().digest() != loaded(binding).digest()


# The tree


def test_the_tree_shows_every_argument_and_builds_nothing():
    assert tree(loaded("Workshop.tools = [@right/Robot(), @Liar()]", "Workshop.gauge = @Gauge()")) == "\n".join(
        [
            "@Workshop()",
            "    paint = @Paint()",
            "        gloss = 0.5",
            "        colour = 'red'  # default",
            "    tools[0] = @right/Robot()",
            "        motor = @right/Motor()",
            "            gear = @right/Gear()",
            "                teeth = 8",
            "                scale = 1.0  # default",
            "            spare = None  # default",
            "            name = 'm'  # default",
            "        inner = None  # default",
            "    tools[1] = @Liar()",
            "    table = None  # default",
            "    days = 5  # default",
            "    open = True  # default",
            "    title = 'none'  # default",
            "    shifts = (8, 16)  # default",
            "    rates = None  # default",
            "    log_every = 1  # default",
            "    gauge = @Gauge()",
            "        count = 3  # default",
        ]
    )
