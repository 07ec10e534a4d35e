"""The examples of docs/frameworks.md are explained as they are, and are short."""

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.docs.test_pages import statements

PAGE = ROOT / "docs" / "frameworks.md"


@pytest.mark.parametrize("name", ["own_path_digits", "own_bridge_digits"])
def test_the_examples_are_explained_whole(name):
    file = f"gin/examples/{name}.gin"
    parts = [block.text for block in blocks(PAGE) if block.marks.get("part of") == file]
    explained = statements("".join(parts))
    assert explained == statements((ROOT / file).read_text())
    assert len(explained) < 30


def test_a_part_is_a_file_of_less_than_thirty_lines():
    """Lines of code: blank ones do not count."""
    parts = {block.marks["file"]: block.text for block in blocks(PAGE) if block.language == "python"}
    assert {"my_path.py", "my_loss.py", "my_metric.py", "my_field.py"} <= parts.keys()
    for name, text in parts.items():
        assert sum(bool(line.strip()) for line in text.splitlines()) < 30, name


def test_the_imported_modules_are_those_of_the_page():
    for block in blocks(PAGE):
        if block.language == "gin" and "file" in block.marks:
            assert f"import {Path(block.marks['file']).stem}" in block.text
