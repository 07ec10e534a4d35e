"""What the docs show is what runs."""

import re
from pathlib import Path

import pytest

from realuid.commands.check import main

ROOT = Path(__file__).parents[1]
FRAMEWORKS = (ROOT / "docs" / "frameworks.md").read_text()
EXAMPLES = sorted((ROOT / "gin" / "examples").glob("*.gin"))


def statements(text):
    """The statements of a gin text, comments and blank lines left out, spaces normalised."""
    lines = [re.sub(r"\s+#.*|^#.*", "", line).rstrip() for line in text.splitlines()]
    return [re.sub(r"\s+", " ", line).strip() for line in lines if line.strip()]


def blocks(section):
    """The indented blocks of a section of docs/frameworks.md."""
    body = FRAMEWORKS.split(f"## {section}\n")[1].split("\n## ")[0]
    return "\n".join(line[4:] for line in body.splitlines() if line.startswith("    "))


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("own_path_digits", "A path of its own, line by line"),
        ("own_bridge_digits", "A bridge of its own, line by line"),
    ],
)
def test_the_examples_are_explained_as_they_are_and_short(name, section):
    text = (ROOT / "gin" / "examples" / f"{name}.gin").read_text()
    assert statements(blocks(section)) == statements(text)
    assert len(statements(text)) < 30


def test_parts_in_python_make_a_framework(tmp_path, monkeypatch, capsys):
    """The module of the docs, imported by a gin file, passes every check; each class has less than 30 lines."""
    python, gin = blocks("A part in Python").split("import my_parts\n")
    for part in python.split("\nclass ")[1:]:
        assert len(part.splitlines()) < 30
    (tmp_path / "my_parts.py").write_text(python)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.gin").write_text(f"include 'gin/fm_digits.gin'\nimport my_parts\n{gin}")
    assert main(["--gin", str(tmp_path / "mine.gin")]) == 0, capsys.readouterr().out


def test_every_gin_file_named_in_the_docs_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"\bgin/[\w/]+\.gin", page.read_text()):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"
