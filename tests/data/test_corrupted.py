"""A data set whose images are degraded ones."""

import torch

from realuid.data.corrupted import Corrupted
from realuid.data.degradations import DownUp, JPEGDegradation
from realuid.data.memory import InMemory


def test_images_are_degraded_and_labels_stay():
    data = InMemory(path="digits", shape=(1, 8, 8), classes=10)
    wrong = Corrupted(data=data, degradation=DownUp(factor=2))
    wrong.open(seed=3, device=torch.device("cpu"))
    for given, plain in ((wrong.batch(5, 7), data.batch(5, 7)), (wrong.examples(5, 7), data.examples(5, 7))):
        blocks = given.images.unfold(2, 2, 2).unfold(3, 2, 2)
        assert (blocks == blocks[..., :1, :1]).all()
        assert not torch.equal(given.images, plain.images)
        assert torch.equal(given.condition["label"], plain.condition["label"])
    assert len(wrong) == len(data)
    assert torch.equal(wrong.label_counts, data.label_counts)


def test_another_corruption_is_another_set():
    data = InMemory(path="digits", shape=(1, 8, 8), classes=10)
    sets = [data, *(Corrupted(data=data, degradation=JPEGDegradation(quality=q)) for q in (5, 10))]
    for one in sets:
        one.open(seed=0, device=torch.device("cpu"))
    assert len({one.checksum for one in sets}) == 3
