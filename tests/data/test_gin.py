"""The shipped data files: with nothing but the path bound they give out batches of what they declare."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from realuid import config as configuration
from realuid.config.files import recipe_folder
from realuid.data.dataset import Batch
from realuid.data.preparation.conversion import convert
from realuid.data.preparation.prepare import Preparation
from realuid.data.shards.index import ShardIndex
from realuid.data.sources import Raw, Source

FILES = sorted(path for path in (recipe_folder() / "data").glob("*.gin") if "digits" not in path.stem)

# Enough of a run around the data that it can be assembled.
AROUND = """
include 'gin/matching/fm.gin'
include 'gin/base/teacher.gin'
MatchingModel.network = @UNet()
UNet.shape = %SHAPE
UNet.classes = %CLASSES
UNet.width = 8
UNet.multipliers = (1, 1)
UNet.blocks = 1
UNet.attention = ()
UNet.head_channels = 8
UNet.group_channels = 4
Adam.lr = 1e-3
Adam.lr_schedule = @CosineLR()
CosineLR.images = 64
EMA.decays = (0.9,)
Trainer.method = @TeacherTraining()
Trainer.evaluator = {evaluator}
Trainer.batch = 4
Trainer.images = 8
Trainer.log_images = 8
Trainer.sample_images = 8
Trainer.checkpoint_images = 8
"""


class Made(Source):
    """A few samples of the shape, the classes and the kind that a file declares."""

    def __init__(self, shape, classes, pairs):
        self.shape, self.pairs = shape, pairs
        self.classes = tuple(str(i) for i in range(classes))
        self.grey = shape[0] == 1

    def __len__(self):
        return 12

    def read(self, number):
        rng = np.random.default_rng(number)
        if self.shape[0] == 4:
            file = io.BytesIO()
            np.save(file, rng.normal(size=self.shape).astype(np.float16) * 5.48998)
            image = ("npy", file.getvalue())
        else:
            image = rng.integers(0, 256, self.shape, np.uint8)
        source = rng.integers(0, 256, self.shape, np.uint8) if self.pairs else None
        return Raw(str(number), image, number % max(1, len(self.classes)), source)

    def fingerprint(self):
        return "made"


def macro(text, name):
    return eval(next(line for line in text.splitlines() if line.startswith(f"{name} = ")).partition(" = ")[2])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_only_the_path_is_bound(tmp_path: Path, file: Path):
    text = file.read_text()
    shape, classes, pairs = macro(text, "SHAPE"), macro(text, "CLASSES"), ".pairs = True" in text
    evaluator = "@Evaluator()" if "Evaluator.features = " in text else "None"
    dest = str(tmp_path / "set")
    about = {"name": "made", "source": "-", "licence": "-", "shard_size": 5, "workers": 0, "shuffle": 0}
    convert({"train": Made(shape, classes, pairs)}, dest, preparation=Preparation(grey=shape[0] == 1), **about)
    (tmp_path / "run.gin").write_text(f"include '{file}'\n" + AROUND.format(evaluator=evaluator))
    trainer = configuration.build(configuration.load([tmp_path / "run.gin"], [f"DATA = '{dest}'"]))
    data = trainer.data
    assert (tuple(data.shape), data.classes, data.has_sources) == (shape, classes, pairs)
    assert data.missing() is None
    data.open(seed=0, device=torch.device("cpu"))
    assert (len(data), len(ShardIndex.read(dest).splits["train"].shards)) == (12, 3)
    assert len(data.label_counts) == classes
    batch = data.batch(0, 24)
    assert isinstance(batch, Batch)
    for part in (batch.images, *([batch.sources] if pairs else [])):
        assert part.shape == (24, *shape)
        assert part.dtype == (torch.float32 if shape[0] == 4 else torch.uint8)
    # Each sample twice, flipped or not.
    values = batch.images.to(torch.float64).sum(dim=(1, 2, 3))
    assert sorted(values[:12].tolist()) == sorted(values[12:].tolist())
    assert len(set(values.tolist())) == 12


def test_no_file_is_forgotten():
    assert {path.stem for path in FILES} == {
        "fashion_mnist", "cifar10", "celeba64", "ffhq64", "tinyimagenet", "imagenet64", "facades", "latents"
    }  # fmt: skip


WRAPPERS = """
SHAPE = (1, 8, 8)
CLASSES = 10
Trainer.data = @Prefetched()
Prefetched.data = @Unpaired()
Prefetched.workers = 0
Prefetched.start_method = 'spawn'
Unpaired.data = @Cropped()
Unpaired.source = @source/Cropped()
Cropped.data = @Mixed()
Cropped.size = 8
Cropped.padding = 2
Mixed.sets = (@one/Streaming(), @other/InMemory())
Mixed.weights = (1, 3)
source/Cropped.data = @Degraded()
Degraded.data = @one/Streaming()
Degraded.degradation = @RandomMask()
RandomMask.fraction = 0.25
Streaming.path = 'digits'
Streaming.shape = %SHAPE
Streaming.classes = %CLASSES
Streaming.tolerate = 3
InMemory.path = 'digits'
InMemory.shape = %SHAPE
InMemory.classes = %CLASSES
"""


def test_everything_is_bindable(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path / "data"))
    (tmp_path / "run.gin").write_text(WRAPPERS + AROUND.format(evaluator="None"))
    data = configuration.build(configuration.load([tmp_path / "run.gin"])).data
    assert "made on first use" in data.missing()
    data.open(seed=0, device=torch.device("cpu"))
    batch = data.batch(0, 50)
    assert batch.images.shape == batch.sources.shape == (50, 1, 8, 8)
    assert (data.tolerate, len(data), len(data.label_counts)) == (6, 2 * 1797, 10)
