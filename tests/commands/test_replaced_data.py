"""Images that are replaced by others at the same place: what was trained on the old ones is not taken for the new."""

import io
import shutil
import tarfile

import pytest
import torch
from PIL import Image

from realuid.commands.make_shards import main as make_shards
from realuid.commands.train import main as train
from realuid.data.augment import Flipped
from realuid.data.buckets import Buckets
from realuid.data.memory import InMemory
from realuid.data.mixed import Mixed
from realuid.data.pairs import Unpaired
from realuid.data.streaming import Streaming
from realuid.training.loop import Loop
from realuid.training.replaced import replaced, stated
from realuid.training.signals import Interrupted
from tests.commands.conftest import tiny


def digits(folder, shard_size):
    """Digits at the same place, in other shards."""
    shutil.rmtree(folder, ignore_errors=True)
    assert make_shards(["digits", str(folder), "--shard-size", str(shard_size), "--quiet"]) == 0


def opened(data):
    data.open(seed=0, device=torch.device("cpu"))
    return data


def test_indices_say_what_opening_finds(tmp_path):
    sets = []
    for number, size in enumerate((1000, 900)):
        digits(tmp_path / str(number), size)
        sets.append({"path": str(tmp_path / str(number)), "shape": (1, 8, 8), "classes": 10})
    first, second = (InMemory(**one) for one in sets)
    stated = first.stated_checksum()
    assert stated == Streaming(**sets[0]).stated_checksum() == opened(InMemory(**sets[0])).checksum
    assert stated != second.stated_checksum()
    assert Flipped(data=first).stated_checksum() == stated
    both = Unpaired(data=first, source=second).stated_checksum()
    assert both != Unpaired(data=first, source=first).stated_checksum(), "samples depend on the sources, too"
    mixed = [Mixed(sets=(first, other), weights=(1.0, 1.0)).stated_checksum() for other in (first, second)]
    assert mixed[0] != mixed[1]
    buckets = [Buckets(sets=(first, other)).stated_checksum() for other in (first, second)]
    assert buckets[0] != buckets[1]
    assert InMemory(**sets[0] | {"path": str(tmp_path / "nowhere")}).stated_checksum() is None


@pytest.mark.parametrize("files", ["*.tar", "{a,b}.tar"])
def test_shards_of_a_pattern_say_themselves_what_they_are(tmp_path, files):
    def shard(name: str, digit: int) -> None:
        picture = io.BytesIO()
        Image.new("L", (8, 8), digit).save(picture, "PNG")
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, content in (("0.png", picture.getvalue()), ("0.cls", str(digit).encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

    def data() -> Streaming:
        return Streaming(path=f"{tmp_path}/{files}", shape=(1, 8, 8), classes=10, cache=str(tmp_path / "cache"))

    shard("a.tar", 1)
    shard("b.tar", 2)
    before = opened(data())
    stated = data().stated_checksum()
    assert before.checksum == stated == Flipped(data=before).stated_checksum()
    shard("b.tar", 3)  # of the same length
    assert before.stated_checksum() == stated, "what was opened is what a run is of"
    assert data().stated_checksum() == opened(data()).checksum != stated
    shard("b.tar", 2)
    assert data().stated_checksum() == stated


def test_which_of_two_sets_was_replaced():
    class Set:
        def __init__(self, checksum: str | None) -> None:
            self.stated_checksum = lambda: checksum

    now = stated(Set("a"), Set("b"))
    assert now == {"data": "a", "prompts": "b"}
    assert stated(Set("a"), None) == {"data": "a"}
    assert replaced(now, now) is None
    assert replaced({"data": "a"}, now) is None, "a run of a version that did not note the prompts"
    assert replaced({"data": "a", "prompts": "c"}, now) == "prompts"
    assert replaced({"data": "c", "prompts": "b"}, now) == "data"
    assert replaced({"data": "c"}, stated(Set(None), None)) is None


@pytest.mark.slow
def test_run_teacher_and_features_are_of_the_images_that_are_there(tmp_path, capsys):
    place, bound = tmp_path / "mine", tiny(f"DATA = '{tmp_path / 'mine'}'")
    digits(place, 1000)
    assert train([*bound, "--out", "runs/a"]) == 0
    digits(place, 1000)  # the same ones again
    assert train([*bound, "--out", "runs/a"]) == 0
    digits(place, 900)
    assert train([*bound, "--out", "runs/a"]) == 2
    assert "runs/a was trained on other images than its data set holds now" in capsys.readouterr().err
    assert train([*bound, "--out", "runs/b"]) == 2, "the teacher's training is found beside it"
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "_teacher-" in line
    assert "move it aside to train anew" in line
    assert not (tmp_path / "runs" / "b").exists()


@pytest.mark.slow
def test_a_run_is_not_resumed_on_other_images(tmp_path, monkeypatch, capsys):
    place, bound = tmp_path / "mine", tiny(f"DATA = '{tmp_path / 'mine'}'")
    digits(place, 1000)
    close = Loop._close

    def stopped(self):
        if self.trainer.method.teacher is not None:
            raise Interrupted(15)
        close(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_close", stopped)
        assert train([*bound, "--out", "runs/a"]) == 143
    digits(place, 900)
    (teacher,) = (tmp_path / "runs").glob("*_teacher-*")
    (teacher / "summary.json").write_text('{"steps": 8}')  # of a version that did not note the images
    assert train([*bound, "--out", "runs/a"]) == 2
    assert "runs/a was begun with other images than Trainer.data holds now" in capsys.readouterr().err
    digits(place, 1000)
    assert train([*bound, "--out", "runs/a"]) == 0
