"""Streaming: every sample once an epoch, in an order that nothing but seed and shards decides."""

import gc
import pickle
import tracemalloc
import uuid

import fsspec
import numpy as np
import pytest
import torch

from realuid.conditions import LABEL
from realuid.data.augment import Flipped
from realuid.data.degradations import RandomMask
from realuid.data.memory import InMemory
from realuid.data.order import Order
from realuid.data.pairs import Degraded
from realuid.data.prefetched import Prefetched, _InWorker
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import numbered_set, numbers_of, same, tar

CPU = torch.device("cpu")


def streaming(path, seed=0, **changes):
    data = Streaming(**{"path": path, "shape": (1, 2, 2), "classes": 3} | changes)
    data.open(seed=seed, device=CPU)
    return data


def test_equals_memory(tmp_path):
    """Mixed over all shards, the order is that of the same set in memory, sample for sample."""
    path = numbered_set(tmp_path / "set", [7, 1, 12])
    stream, memory = streaming(path, shuffle=3), InMemory(path=path, shape=(1, 2, 2), classes=3)
    memory.open(seed=0, device=CPU)
    for start, count in ((0, 20), (15, 30), (1234, 7)):
        for ours, theirs in (
            (stream.batch(start, count), memory.batch(start, count)),
            (stream.examples(start, count), memory.examples(start, count)),
        ):
            assert same(ours, theirs)
            assert ours.condition.keys() == {LABEL}
            assert ours.sources is None
    assert (len(stream), stream.checksum) == (len(memory), memory.checksum)
    assert stream.label_counts.tolist() == memory.label_counts.tolist() == [7, 7, 6]
    assert stream.faults() == {}
    assert stream.wait_s() > 0


def by_ranks(path, seed, shuffle, world, workers, batch, steps):
    """The rows that `world` ranks with `workers` workers each give out, put together in the order of the steps."""
    packed = pickle.dumps(Streaming(path=path, shape=(1, 2, 2), classes=3, shuffle=shuffle))
    ranks = [[_InWorker(packed, seed) for _ in range(max(1, workers))] for _ in range(world)]
    rows = batch // world
    given = []
    for step in range(steps):
        for rank, readers in enumerate(ranks):
            (images, fields, sources), _, error = readers[step % len(readers)][
                ("batch", step * batch + rank * rows, rows)
            ]
            assert error is None
            assert sources is None
            assert torch.equal(fields[LABEL], torch.tensor(numbers_of(images)) % 3)
            given += numbers_of(images)
    return given


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_exactly_once(tmp_path, seed):
    """For random numbers and sizes of shards: worlds 1, 2, 3, 4, 8 and 0, 1, 2 workers give the same global order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 12, rng.integers(1, 15)).tolist()
    shuffle = int(rng.integers(1, len(counts) + 2))
    path = numbered_set(tmp_path / "set", counts)
    samples, batch = sum(counts), 24
    steps = -(-3 * samples // batch)
    alone = numbers_of(streaming(path, seed=seed, shuffle=shuffle).batch(0, steps * batch).images)
    for epoch in range(3):
        assert sorted(alone[epoch * samples : (epoch + 1) * samples]) == list(range(samples))
    for world in (1, 2, 3, 4, 8):
        for workers in (0, 1, 2):
            assert by_ranks(path, seed, shuffle, world, workers, batch, steps) == alone


def test_orders_differ(tmp_path):
    path = numbered_set(tmp_path / "set", [10] * 6)
    data = streaming(path, shuffle=2)
    first, second = numbers_of(data.batch(0, 60).images), numbers_of(data.batch(60, 60).images)
    other = numbers_of(streaming(path, seed=1, shuffle=2).batch(0, 60).images)
    assert len({tuple(first), tuple(second), tuple(other), tuple(range(60))}) == 4

    def shards(order):
        return [order[i] // 10 for i in range(0, 60, 10)]

    assert len({tuple(sorted(set(part))) for part in (shards(first)[:2], shards(second)[:2], shards(other)[:2])}) > 1


def test_a_window_mixes_its_shards(tmp_path):
    """Two of six shards at a time, each window in a random order of its own."""
    given = numbers_of(streaming(numbered_set(tmp_path / "set", [20] * 6), shuffle=2).batch(0, 120).images)
    for window in np.split(np.array(given) // 20, 3):
        assert len(set(window)) == 2
        changes = (window[1:] != window[:-1]).sum()
        assert 8 < changes < 32  # 19.5 expected; in order it would be 1


def test_order_is_frozen():
    """Runs are resumed by later versions: this order may never change."""
    order = Order(seed=7, counts=[2, 3, 1, 2], window=2)
    assert order.take(0, 8).tolist() == [0, 1, 5, 4, 6, 3, 7, 2]
    assert order.take(6, 8).tolist() == [7, 2, 3, 0, 1, 2, 4, 6]


def test_windows_name_the_shards_to_come():
    order = Order(seed=3, counts=[4, 5, 6, 7, 8], window=2)
    starts = np.concatenate([[0], np.cumsum(order.counts)])
    for position in range(0, 90):
        now, then = order.windows(position, 2)
        home = int(np.searchsorted(starts, order.take(position, 1)[0], side="right")) - 1
        assert home in now
        later = order.take(position, 90)
        homes = np.searchsorted(starts, later, side="right") - 1
        left = next(i for i, h in enumerate(homes) if h not in now)
        if position % 30 + left < 30:  # the next window of the same epoch
            assert homes[left] in then


def chain(path, workers, start_method="fork"):
    """Transforms of every kind on a stream."""
    bare = Streaming(path=path, shape=(1, 2, 2), classes=3, shuffle=2)
    wrapped = Degraded(data=Flipped(data=bare), degradation=RandomMask(fraction=0.5))
    data = Prefetched(data=wrapped, workers=workers, start_method=start_method)
    data.open(seed=9, device=CPU)
    return data


def test_stop_and_resume_twice(tmp_path):
    """Stopped anywhere and resumed, with as many workers or others: the tail that would have come, bit for bit."""
    path = numbered_set(tmp_path / "set", [9, 13, 11, 5], gz=True)
    whole = chain(path, workers=0)
    expected = [whole.batch(6 * step, 6) for step in range(25)]  # four epochs of 38
    for workers in (1, 2):
        step = 0
        for stop in (7, 8, 25):  # a new data set each time, as in a new process
            part = chain(path, workers)
            while step < stop:
                assert same(part.batch(6 * step, 6), expected[step])
                step += 1


@pytest.mark.parametrize("workers", [0, 2])
def test_any_access(tmp_path, workers):
    path = numbered_set(tmp_path / "set", [9, 13, 11, 5])
    data, plain = chain(path, workers), chain(path, 0)
    for kind, start, count in (
        *(("batch", 16 * i + 4, 4) for i in range(5)),  # a rank's rows
        ("batch", 3, 8),
        ("examples", 30, 20),
        ("examples", 50, 20),
        ("batch", 4, 4),
        ("batch", 0, 5),
        *(("batch", 8 * i, 8) for i in range(4)),
        ("batch", 0, 8),
    ):
        assert same(getattr(data, kind)(start, count), getattr(plain, kind)(start, count))


def test_reads_ahead_at_a_fixed_distance(tmp_path):
    """The guess is right from the third request on: workers are restarted at most twice."""
    data = chain(numbered_set(tmp_path / "set", [9, 13]), workers=1)
    restarts = []
    requests = data._samples._requests
    start = requests.start
    requests.start = lambda *a: (restarts.append(a), start(*a))
    for i in range(20):
        data.batch(16 * i + 4, 4)
    assert len(restarts) == 2


def test_waiting_is_measured(tmp_path):
    data = chain(numbered_set(tmp_path / "set", [9, 13]), workers=1)
    assert data.wait_s() == 0
    data.batch(0, 4)
    assert data.wait_s() > 0
    assert data.wait_s() == 0


def test_unconditional(tmp_path):
    data = streaming(numbered_set(tmp_path / "set", [9]), classes=0)
    assert data.batch(0, 9).condition == {}
    assert data.conditions == ()
    assert data.label_counts.shape == (0,)
    bare = streaming(numbered_set(tmp_path / "bare", [9], labels=False), classes=0)
    assert sorted(numbers_of(bare.batch(0, 9).images)) == list(range(9))


def test_memory_urls(tmp_path):
    folder = numbered_set(tmp_path / "set", [9, 4])
    url = f"memory://{uuid.uuid4().hex}"
    fs, root = fsspec.core.url_to_fs(url)
    fs.put(folder, root, recursive=True)
    data = Prefetched(data=Streaming(path=url, shape=(1, 2, 2), classes=3), workers=0)
    data.open(seed=0, device=CPU)
    assert sorted(numbers_of(data.batch(0, 13).images)) == list(range(13))
    fs.rm(root, recursive=True)


def test_patterns(tmp_path):
    path = numbered_set(tmp_path / "set", [4, 5, 6, 7])
    for pattern, shards in (
        ("train-{000001..000002}.tar", [1, 2]),
        ("train-*.tar", [0, 1, 2, 3]),
        ("train-00000[03].tar", [0, 3]),
        ("train-{000003,000000}.tar", [3, 0]),
    ):
        data = streaming(f"{path}/{pattern}")
        bounds = [0, 4, 9, 15, 22]
        expected = [n for shard in shards for n in range(bounds[shard], bounds[shard + 1])]
        assert numbers_of(data.examples(0, len(data)).images) == expected
        assert data.label_counts.tolist() == np.bincount(np.array(expected) % 3, minlength=3).tolist()
    two = numbered_set(tmp_path / "other", [3])
    both = streaming(f"{tmp_path}/{{set,other}}/train-000000.tar")
    assert (len(both), two) == (7, str(tmp_path / "other"))


@pytest.mark.parametrize("gz", [False, True])
def test_without_index(tmp_path, gz):
    path = numbered_set(tmp_path / "set", [4, 5], gz=gz)
    indexed = streaming(path)
    (tmp_path / "set" / "index.json").unlink()
    for _ in range(2):  # searched, and then known to the cache
        bare = streaming(f"{path}/train-*.tar{'.gz' * gz}")
        assert same(bare.batch(3, 20), indexed.batch(3, 20))
    assert bare.checksum == indexed.checksum


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"no shards match"):
        streaming(f"{tmp_path}/train-*.tar")
    with pytest.raises(DataError, match=r"train-000.tar is not there"):
        streaming(f"{tmp_path}/train-000.tar")
    with pytest.raises(DataError, match=r"no data set 'nothing'"):
        streaming("nothing")
    path = numbered_set(tmp_path / "set", [])
    with pytest.raises(DataError, match="split 'train' is empty"):
        streaming(path)
    (tmp_path / "a.tar").write_bytes(tar([]))
    with pytest.raises(DataError, match=r"a\.tar' is empty"):
        streaming(f"{tmp_path}/a.tar")
    with pytest.raises(DataError, match="twice"):
        streaming(f"{path}/{{a,a}}.tar")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 2, 2)}, r"Streaming.shape is \(3, 2, 2\), but .* of shape \(1, 2, 2\)"),
        ({"classes": 4}, "Streaming.classes is 4, but .* has 3 classes"),
        ({"split": "test"}, "split is 'test', but .* has the splits train"),
    ],
)
def test_declarations_are_checked(tmp_path, changes, message):
    data = Streaming(**{"path": numbered_set(tmp_path / "set", [5]), "shape": (1, 2, 2), "classes": 3} | changes)
    with pytest.raises(DataError, match=message):
        data.missing()
    with pytest.raises(DataError, match=message):
        data.open(seed=0, device=CPU)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Streaming(path="a", shape=(1, 2, 2), shuffle=0), "shuffle and cache_bytes from 1"),
        (lambda: Streaming(path="a", shape=(1, 2, 2), tolerate=-1), "tolerate from 0"),
        (lambda: Prefetched(data=Streaming(path="a", shape=(1, 2, 2)), workers=-1), "workers from 0"),
        (lambda: Prefetched(data=Streaming(path="a", shape=(1, 2, 2)), start_method="thread"), "fork, spawn"),
    ],
)
def test_wrong_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_few_shards_are_kept_open(tmp_path):
    data = streaming(numbered_set(tmp_path / "set", [3] * 40), shuffle=2)
    for position in range(0, 480, 8):
        data.batch(position, 8)
    assert len(data._pool._opened) <= 6
    assert len(data._pool._fetching) <= 4
    assert len(data._order._windows) <= 2


@pytest.mark.slow
def test_memory_is_flat(tmp_path):
    """Python's own allocations after the third and after the tenth epoch."""
    data = Flipped(data=Streaming(path=numbered_set(tmp_path / "set", [20] * 10), shape=(1, 2, 2), shuffle=2))
    data.open(seed=0, device=CPU)
    sizes = []
    gc.freeze()  # what was there before need not be looked through each time
    tracemalloc.start()
    try:
        for position in range(0, 2000, 20):
            data.batch(position, 20)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert max(sizes[90:]) < max(sizes[20:30]) + 20_000
