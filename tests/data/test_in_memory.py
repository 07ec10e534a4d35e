"""The endless order: every image once an epoch, from any point, however it is cut."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from realuid.conditions import LABEL
from realuid.data.dataset import Dataset
from realuid.data.memory import InMemory
from realuid.data.shards.index import ShardIndex
from realuid.utils.errors import DataError

CPU = torch.device("cpu")


def opened(path, seed=0, device=CPU, classes=3):
    data = InMemory(path=path, shape=(1, 2, 2), classes=classes)
    data.open(seed=seed, device=device)
    return data


def order(data, start, count):
    """The numbers of the images given out."""
    images, condition, sources = data.batch(start, count)
    assert sources is None
    assert images.shape == (count, 1, 2, 2)
    assert images.dtype == torch.uint8
    numbers = images[:, 0, 0, 0].long()
    assert list(condition) == ([LABEL] if data.classes else [])
    if data.classes:
        assert condition[LABEL].dtype == torch.int64
        assert torch.equal(condition[LABEL], numbers % 3)
    return numbers.tolist()


def test_holds_the_data(numbered):
    data = opened(numbered(25, shard_size=10))
    assert isinstance(data, Dataset)
    assert len(data) == 25
    stored = data.examples(0, 25)
    assert torch.equal(stored.images, torch.arange(25).to(torch.uint8)[:, None, None, None].expand(25, 1, 2, 2))
    assert torch.equal(stored.condition[LABEL], torch.arange(25) % 3)
    assert data.examples(20, 10).images[:, 0, 0, 0].tolist() == [20, 21, 22, 23, 24, 0, 1, 2, 3, 4]
    assert (data.faults(), data.wait_s()) == ({}, 0.0)
    assert torch.equal(data.label_counts, torch.tensor([9, 8, 8]))


@pytest.mark.parametrize("seed", range(5))
def test_every_image_once_an_epoch(numbered, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    data = opened(numbered(n), seed=seed)
    given: list[int] = []
    while len(given) < 5 * n:
        given += order(data, len(given), int(rng.integers(1, 2 * n + 3)))
    for epoch in range(5):
        assert sorted(given[epoch * n : (epoch + 1) * n]) == list(range(n))
    # However it is cut, and from any point on.
    assert order(opened(data.path, seed=seed), 0, len(given)) == given
    for _ in range(20):
        start, stop = np.sort(rng.integers(0, len(given) + 1, 2))
        if start < stop:
            assert order(data, int(start), int(stop - start)) == given[start:stop]


def test_orders_differ(numbered):
    path = numbered(50)
    data = opened(path)
    first, second = order(data, 0, 50), order(data, 50, 50)
    other = order(opened(path, seed=1), 0, 50)
    assert list(range(50)) not in (first, second, other)
    assert first != second
    assert first != other
    assert second != other


def test_order_is_frozen(numbered):
    """Runs are resumed by later versions: this order may never change."""
    assert order(opened(numbered(8), seed=7), 6, 6) == [1, 4, 7, 1, 2, 5]


def test_few_orders_are_kept(numbered):
    data = opened(numbered(10))
    for position in range(0, 200, 7):
        data.batch(position, 7)
    assert len(data._order._windows) == 2


def test_unconditional(numbered):
    data = opened(numbered(10), classes=0)
    assert data.examples(0, 10).condition == {}
    assert data.conditions == ()
    assert data.label_counts.shape == (0,)
    assert order(data, 0, 10) == order(opened(data.path), 0, 10)


def test_some_labels_only(numbered):
    """As if the set held nothing else, but for the number of classes."""
    whole = opened(numbered(25))
    part = InMemory(path=whole.path, shape=(1, 2, 2), classes=3, only=(2, 0))
    part.open(seed=0, device=CPU)
    assert part.classes == 3
    assert part.label_counts.tolist() == [9, 0, 8]
    assert part.examples(0, 17).images[:, 0, 0, 0].tolist() == [n for n in range(25) if n % 3 != 1]
    assert sorted(order(part, 17, 17)) == [n for n in range(25) if n % 3 != 1], "no epoch of its own images"
    assert part.checksum != whole.checksum
    other = InMemory(path=whole.path, shape=(1, 2, 2), classes=3, only=(0, 1))
    other.open(seed=0, device=CPU)
    assert part.checksum != other.checksum


def test_labels_that_are_not_there(numbered):
    for wrong in ((), (3,), (-1, 0)):
        with pytest.raises(ValueError, match="only must name labels from 0 to 2"):
            InMemory(path="digits", shape=(1, 8, 8), classes=3, only=wrong)
    data = InMemory(path=numbered(2), shape=(1, 2, 2), classes=3, only=(2,))
    with pytest.raises(DataError, match="no image of split 'train' has a label of"):
        data.open(seed=0, device=CPU)


def test_checksum_stands_for_the_data(numbered, tmp_path):
    here = opened(numbered(20, shard_size=10))
    shards = ShardIndex.read(here.path).splits["train"].shards
    assert here.checksum == hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
    assert here.checksum != opened(numbered(21)).checksum


def test_builtin(monkeypatch, tmp_path):
    monkeypatch.setenv("REALUID_DATA", str(tmp_path))
    data = InMemory(path="digits", shape=(1, 8, 8), classes=10)
    assert "is made on first use" in data.missing()
    assert not list(tmp_path.iterdir())
    data.open(seed=0, device=CPU)
    assert data.missing() is None
    assert len(data) == 1797
    assert data.label_counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 2, 2)}, r"shape is \(3, 2, 2\), but .* of shape \(1, 2, 2\)"),
        ({"shape": (1, 4, 4)}, r"shape is \(1, 4, 4\), but .* of shape \(1, 2, 2\)"),
        ({"classes": 4}, "classes is 4, but .* has 3 classes"),
        ({"split": "test"}, "split is 'test', but .* has the splits train"),
    ],
)
def test_declarations_are_checked(numbered, changes, message):
    data = InMemory(**{"path": numbered(5), "shape": (1, 2, 2), "classes": 3} | changes)
    with pytest.raises(DataError, match=message):
        data.missing()
    with pytest.raises(DataError, match=message):
        data.open(seed=0, device=CPU)


def test_label_counts_are_checked(numbered):
    path = numbered(6)
    index = ShardIndex.read(path)
    split = dataclasses.replace(index.splits["train"], labels=(3, 2, 1))
    dataclasses.replace(index, splits={"train": split}).write(path)
    with pytest.raises(DataError, match="labels of split 'train'"):
        opened(path)


def test_index_of_others(numbered, tmp_path):
    """Without `labels` in the index the counts come from the data."""
    path = numbered(10)
    file = tmp_path / "numbered-10" / "index.json"
    record = json.loads(file.read_text())
    del record["splits"]["train"]["labels"]
    file.write_text(json.dumps(record))
    assert opened(path).label_counts.tolist() == [4, 3, 3]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_same_order_on_cuda(numbered):
    data = opened(numbered(50), device=torch.device("cuda"))
    assert data.batch(45, 10).images.is_cuda
    assert order(data, 45, 10) == order(opened(data.path), 45, 10)
