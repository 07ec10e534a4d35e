"""tools/export.py --push, to a local server in the place of the hub of Hugging Face."""

import re

import pytest
import torch

import realuid
from realuid.commands.export import main
from realuid.export import hub
from realuid.export.licences import LICENCES
from realuid.utils.errors import RunError
from tests.commands.conftest import ROOT
from tests.export.hub import Hub

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture(name="server")
def _server(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub's own storage; others are asked by LFS
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "good")
        yield server


def test_what_is_pushed_is_the_export_and_opens_again(finished, server, tmp_path, capfd):
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("not of the export")
    assert main(["--run", str(finished), "--out", str(out), "--push", "owner/name"]) == 0
    assert f"{server.url}/owner/name/commit/" in capfd.readouterr().err
    assert sorted(server.files) == ["README.md", "model.json", "model.safetensors"]
    for name, content in server.files.items():
        assert content == (out / name).read_bytes()
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / name).write_bytes(content)
    images = realuid.load(str(out)).sample(2)
    assert torch.equal(realuid.load(str(tmp_path / "again")).sample(2), images)
    card = server.files["README.md"].decode()
    assert set(server.cards) == {card}
    assert "| data | digits |" in card
    assert "realuid train" in card
    assert "| student_frechet |" in card


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        (None, "owner/name", "there is no token: set HF_TOKEN"),
        ("reader", "owner/name", "the token may not write to owner/name"),
        ("good", "owner/missing", "there is no such repository, or the token may not see it: make it at http"),
        ("wrong", "owner/name", "the token is not valid"),
        ("good", "name", "a repository is owner/name"),
    ],
)
def test_what_keeps_it_from_being_pushed_is_one_line_before_the_export(
    token, name, message, finished, server, monkeypatch, tmp_path, capfd
):
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert main(["--run", str(finished), "--out", str(tmp_path / "out"), "--push", name]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("export.py")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_the_licence_of_every_teacher_on_the_hub_is_known():
    """And is that of its file in gin/teachers/."""
    told = {}
    for path in (ROOT / "gin/teachers").glob("*.gin"):
        if found := re.search(r"^# Weights  hf://(\S+), (.*)$", path.read_text(), re.MULTILINE):
            told[found[1]] = found[2]
    assert told.keys() == LICENCES.keys()
    assert all(licence in told[name] for name, (_, licence) in LICENCES.items())


def test_a_link_out_of_the_folder_is_not_followed(server, tmp_path):
    folder = tmp_path / "out"
    (folder / "diffusers").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (folder / "diffusers" / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(RunError, match=r"a\.txt is a symbolic link out of the folder"):
        hub.push("owner/name", folder, ["diffusers"])
    assert not server.files
