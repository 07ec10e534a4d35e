"""Sets of several sizes, of which every step reads one."""

import numpy as np
import pytest
import torch

from realuid.conditions import LABEL
from realuid.data.buckets import BLOCK, Buckets
from realuid.data.latents import Latents
from realuid.data.memory import InMemory
from realuid.data.mixed import Mixed
from realuid.data.prefetched import Prefetched
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from realuid.utils.keys import key
from tests.data.handmade import numbered_set, numbers_of, same

CPU = torch.device("cpu")


def opened(data, seed=0):
    data.open(seed=seed, device=CPU)
    return data


def sets(tmp_path, sizes=(30, 90), cls=InMemory, **more):
    paths = [numbered_set(tmp_path / f"set{i}", [size]) for i, size in enumerate(sizes)]
    return tuple(cls(path=path, shape=(1, 2, 2), classes=3, **more) for path in paths)


def test_every_step_reads_one_set_by_the_number_of_its_images(tmp_path):
    """The law is proportional: of n steps a set of the share p has n p, give or take four deviations of a binomial."""
    data = opened(Buckets(sets=sets(tmp_path)))
    steps = 3 * BLOCK + 100
    homes = [data.of_step(step) for step in range(steps)]
    small = sum(one is data.sets[0] for one, _ in homes)
    assert abs(small - steps / 4) < 4 * (steps * 0.25 * 0.75) ** 0.5
    for one in data.sets:  # each set's steps are numbered one after the other
        assert [place for home, place in homes if home is one] == list(range(sum(home is one for home, _ in homes)))
    # Independent draws: what follows a step is as likely after either set.
    first = np.array([one is data.sets[0] for one, _ in homes])
    assert abs(first[1:][first[:-1]].mean() - first[1:][~first[:-1]].mean()) < 4 * (0.19 / small + 0.19 / steps) ** 0.5


def test_the_choice_is_the_keyed_one_whoever_asks_and_in_whatever_order(tmp_path):
    data = opened(Buckets(sets=sets(tmp_path)), seed=5)
    asked = [2 * BLOCK + 7, 3, BLOCK, 2 * BLOCK + 8, 0]
    random = [np.random.RandomState(np.random.Philox(key=key("buckets", 5, block))) for block in range(3)]
    drawn = np.concatenate([one.random_sample(BLOCK) for one in random]) * 120 >= 30
    for step in asked:
        one, place = data.of_step(step)
        assert one is data.sets[int(drawn[step])]
        assert place == (drawn[:step] == drawn[step]).sum()
    again = opened(Buckets(sets=sets(tmp_path)), seed=6)
    found = [[one.of_step(step)[1] for step in range(50)] for one in (data, again)]
    assert found[0] != found[1]


@pytest.mark.parametrize("cls", [InMemory, Streaming])
def test_one_set_is_that_set(tmp_path, cls):
    (plain,) = sets(tmp_path, (40,), cls)
    (inner,) = sets(tmp_path, (40,), cls)
    plain, data = opened(plain, 3), opened(Buckets(sets=(inner,)), 3)
    for step in (0, 1, 9):
        one, place = data.of_step(step)
        assert place == step
        assert same(one.batch(place * 16, 16), plain.batch(step * 16, 16))
        assert torch.equal(one.condition_batch(place * 16, 16)[LABEL], plain.condition_batch(step * 16, 16)[LABEL])
    assert same(data.examples(3, 50), plain.examples(3, 50))
    assert same(data.batch(3, 50), plain.batch(3, 50))
    told = "checksum", "shape", "classes", "conditions", "shapes", "tolerate", "encoder"
    assert all(getattr(data, name) == getattr(plain, name) for name in told)
    assert (len(data), data.label_counts.tolist()) == (len(plain), plain.label_counts.tolist())
    assert data.missing() is None
    assert same(opened(Prefetched(data=data, workers=0), 3).batch(0, 8), plain.batch(0, 8))


def test_the_first_set_is_shown_and_judged(tmp_path):
    data = opened(Buckets(sets=sets(tmp_path, (6, 90))))
    assert data.main is data.sets[0]
    assert numbers_of(data.examples(4, 4).images) == [4, 5, 0, 1]
    assert len(data) == 6
    assert data.label_counts.tolist() == [2, 2, 2]
    assert data.checksum != data.main.checksum
    orders = [numbers_of(one.batch(0, 6).images) for one in data.sets]
    alone = opened(sets(tmp_path, (6, 90))[1])
    assert orders[1] != numbers_of(alone.batch(0, 6).images)  # the seed is another one than the first set's


def sized(folder, shape, classes=0, pairs=False):
    """A set that is not opened."""
    return InMemory(path=folder, shape=shape, classes=classes, pairs=pairs)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda a, b: Buckets(sets=()), "Buckets takes one set or more"),
        (lambda a, b: Buckets(sets=(a, sized("x", (3, 4, 2)))), "alike in channels"),
        (lambda a, b: Buckets(sets=(a, sized("x", (1, 4, 2), classes=3))), "no condition"),
        (lambda a, b: Buckets(sets=(a, sized("x", (1, 4, 2), pairs=True))), "pairs"),
        (lambda a, b: Buckets(sets=(Buckets(sets=(a, b)), a)), "Buckets.sets are of one size each"),
        (lambda a, b: Latents(data=Buckets(sets=(a, b))), r"bind @Latents\(\) around each of Buckets.sets"),
        (lambda a, b: Mixed(sets=(a, Buckets(sets=(a, b))), weights=(1.0, 1.0)), "Mixed.sets are of one size each"),
    ],
)
def test_refusals(made, words):
    with pytest.raises(ValueError, match=words):
        made(sized("a", (1, 2, 4)), sized("b", (1, 4, 2)))


def test_units_must_agree(tmp_path):
    first, second = sets(tmp_path)
    with pytest.raises(DataError, match="different units: pixels; latents of mean"):
        Buckets(sets=(first, Latents(data=second))).latent_scaling  # noqa: B018
