"""Several sets as one; latents in the model's units."""

import numpy as np
import pytest
import torch

from realuid.conditions import LABEL, Condition
from realuid.data.corrupted import Corrupted
from realuid.data.dataset import Batch
from realuid.data.degradations import Grey
from realuid.data.latents import Latents
from realuid.data.memory import InMemory
from realuid.data.mixed import Mixed
from realuid.data.pairs import Degraded, ImageCondition
from realuid.data.pixels import to_float
from realuid.data.prefetched import Prefetched
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import numbered_set, numbers_of

CPU = torch.device("cpu")


def sets(tmp_path, sizes=(30, 200), cls=InMemory):
    paths = [numbered_set(tmp_path / f"set{i}", [size]) for i, size in enumerate(sizes)]
    return tuple(cls(path=path, shape=(1, 2, 2), classes=3) for path in paths)


def opened(data, seed=0):
    data.open(seed=seed, device=CPU)
    return data


def test_in_proportion(tmp_path):
    """Of every thousand 250 come from the first set, each set in the chain of its own epochs."""
    parts = sets(tmp_path)
    data = opened(Mixed(sets=parts, weights=(1.0, 3.0)))
    homes, places = data._chosen(0, 3000)
    for block in np.split(homes, 3):
        assert np.bincount(block).tolist() == [250, 750]
        assert (block[1:] != block[:-1]).mean() > 0.3  # mixed, not one after the other
    given = np.array(numbers_of(data.batch(0, 3000).images))
    for number, part in enumerate(parts):
        own = given[homes == number]
        assert places[homes == number].tolist() == list(range(len(own)))
        assert own.tolist() == numbers_of(part.batch(0, len(own)).images)
    assert torch.equal(data.batch(0, 3000).condition[LABEL], torch.from_numpy(given) % 3)


@pytest.mark.parametrize("cls", [InMemory, Streaming])
def test_however_it_is_cut(tmp_path, cls):
    data = opened(Mixed(sets=sets(tmp_path, cls=cls), weights=(1.0, 3.0)))
    whole = numbers_of(data.batch(0, 2500).images)
    cut = [n for a, b in ((0, 1), (1, 999), (999, 1003), (1003, 2500)) for n in numbers_of(data.batch(a, b - a).images)]
    assert cut == whole
    assert numbers_of(data.batch(700, 1100).images) == whole[700:1800]
    assert numbers_of(opened(data, seed=1).batch(0, 2500).images) != whole


def test_in_workers(tmp_path):
    data = opened(Prefetched(data=Mixed(sets=sets(tmp_path, cls=Streaming), weights=(1.0, 3.0)), workers=1))
    alone = opened(Mixed(sets=sets(tmp_path, cls=Streaming), weights=(1.0, 3.0)))
    for start in (0, 50, 100):
        assert torch.equal(data.batch(start, 50).images, alone.batch(start, 50).images)


def test_examples_and_counts(tmp_path):
    data = opened(Mixed(sets=sets(tmp_path, (4, 6)), weights=(1.0, 1.0)))
    assert numbers_of(data.examples(2, 10).images) == [2, 3, 0, 1, 2, 3, 4, 5, 0, 1]
    assert len(data) == 10
    # Five of ten from each: half of (2, 1, 1) * 10/4 and half of (2, 2, 2) * 10/6.
    assert data.label_counts.tolist() == [4, 3, 3]
    assert data.checksum != opened(Mixed(sets=data.sets, weights=(1.0, 2.0))).checksum
    assert data.missing() is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [((1.0,), "a positive weight each"), ((1.0, 0.0), "a positive weight each"), ((1.0, 1e-4), "less than one sample")],
)
def test_wrong_weights(tmp_path, weights, message):
    with pytest.raises(ValueError, match=message):
        Mixed(sets=sets(tmp_path), weights=weights)


def test_sets_must_be_alike(tmp_path):
    one = InMemory(path="a", shape=(1, 2, 2), classes=3)
    with pytest.raises(ValueError, match=r"sets alike in shape.*\(1, 2, 2\), label \(3 classes\)"):
        Mixed(sets=(one, InMemory(path="b", shape=(1, 2, 2), classes=2)), weights=(1.0, 1.0))


class Floats(InMemory):
    """Latents 2x1x1 with means (3, -1) and deviations (2, 5)."""

    def __init__(self):
        self.shape, self.classes = (2, 1, 1), 0
        self._x = torch.randn(4000, 2, 1, 1, generator=torch.Generator().manual_seed(0))
        self._x = (self._x * torch.tensor([2.0, 5.0])[:, None, None] + torch.tensor([3.0, -1.0])[:, None, None]).half()

    def open(self, *, seed, device):
        pass

    def examples(self, start, count):
        rows = torch.arange(start, start + count) % len(self)
        return Batch(self._x[rows], Condition(), self._x[rows] * 2)

    def __len__(self):
        return 4000


def test_latents_are_standardised():
    data = Latents(data=Floats(), mean=(3.0, -1.0), deviation=(2.0, 5.0))
    batch = data.examples(0, 4000)
    z = to_float(batch.images)
    assert z is batch.images
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), atol=0.06, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(2), atol=0.05, rtol=0)
    x0 = to_float(batch.sources) * torch.tensor([2.0, 5.0])[:, None, None] + torch.tensor([3.0, -1.0])[:, None, None]
    torch.testing.assert_close(x0, data.data._x.float() * 2, atol=1e-2, rtol=1e-2)


def test_each_to_its_own(tmp_path):
    """Pixels are no latents, and latents are not degraded."""
    pixels = InMemory(path=numbered_set(tmp_path / "set", [4]), shape=(1, 2, 2))
    for data, message in (
        (Latents(data=pixels), r"Latents.data gives torch.uint8 images"),
        (Degraded(data=Floats(), degradation=Grey()), r"Degraded.data gives torch.float16 arrays"),
        (ImageCondition(data=Floats(), degradation=Grey()), r"ImageCondition.data gives torch.float16 arrays"),
        (Corrupted(data=Floats(), degradation=Grey()), r"Corrupted.data gives torch.float16 arrays"),
    ):
        data.open(seed=0, device=CPU)
        with pytest.raises(DataError, match=message):
            data.examples(0, 2)


@pytest.mark.parametrize("values", [{"mean": (1.0, 2.0, 3.0)}, {"deviation": (1.0, 0.0)}, {"deviation": ()}])
def test_latents_wrong_values(values):
    with pytest.raises(ValueError, match="Latents of 2 channels"):
        Latents(data=Floats(), **values)


def test_sets_in_different_units_are_refused(tmp_path):
    one, two = (InMemory(path=numbered_set(tmp_path / name, [4]), shape=(1, 2, 2)) for name in "ab")
    alike = [Latents(data=data, mean=(1.0,), deviation=(2.0,)) for data in (one, two)]
    assert Mixed(sets=tuple(alike), weights=(1.0, 1.0)).latent_scaling == ((1.0,), (2.0,))
    for other, words in (
        (Latents(data=two, mean=(1.0,), deviation=(3.0,)), r"latents of mean \(1.0,\), deviation \(3.0,\)"),
        (two, "; pixels"),
    ):
        mixed = Mixed(sets=(alike[0], other), weights=(1.0, 1.0))
        for ask in (lambda mixed=mixed: mixed.latent_scaling, mixed.missing, lambda mixed=mixed: opened(mixed)):
            with pytest.raises(DataError, match=f"Mixed.sets give images in different units: .*{words}"):
                ask()


def test_one_number_for_all_channels_is_the_same_for_each():
    raw = InMemory(path="x", shape=(2, 1, 1))
    sets = (Latents(data=raw, deviation=(2.0,)), Latents(data=raw, deviation=(2.0, 2.0)))
    assert Mixed(sets=sets, weights=(1.0, 1.0)).latent_scaling == sets[0].latent_scaling
