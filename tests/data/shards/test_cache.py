"""The cache of shards: bounded, shared by processes at once, whole or not at all."""

import contextlib
import multiprocessing
import os
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import torch

from realuid.data.shards.cache import Cache
from realuid.data.shards.index import ShardIndex
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.handmade import numbered_set, numbers_of

CPU = torch.device("cpu")


def opened(path, **changes):
    data = Streaming(**{"path": str(path), "shape": (1, 2, 2), "classes": 3, "shuffle": 2} | changes)
    data.open(seed=0, device=CPU)
    return data


def copies(cache):
    return sorted(cache.glob("*.tar"))


def size_of(cache):
    total = 0
    for file in copies(cache):
        with contextlib.suppress(FileNotFoundError):  # just being removed
            total += file.stat().st_size
    return total


def test_local_tars_are_read_where_they_lie(tmp_path, cache):
    opened(numbered_set(tmp_path / "set", [5, 6])).batch(0, 11)
    assert copies(cache) == []
    assert len(list(cache.glob("*.layout"))) == 2


def test_fetched_once(tmp_path, cache, monkeypatch):
    """A second job opens nothing but its copies."""
    path = numbered_set(tmp_path / "set", [5, 6], gz=True)
    expected = numbers_of(opened(path).batch(0, 22).images)
    assert len(copies(cache)) == 2
    fetched = []
    monkeypatch.setattr(Cache, "_fetch", lambda *arguments: fetched.append(arguments))
    assert numbers_of(opened(path).batch(0, 22).images) == expected
    assert fetched == []


@pytest.mark.parametrize(
    "note", [b"garbage", b"\xff\xfe", b"1 2", b'{"file": "x", "samples": 9, "bytes": 1, "sha256": "0"}']
)
def test_notes_that_are_damaged_are_taken_again(tmp_path, cache, note):
    numbered_set(tmp_path / "set", [5, 6])
    (tmp_path / "set" / "index.json").unlink()
    pattern = tmp_path / "set" / "*.tar"
    counts, kept = opened(pattern).label_counts, list(cache.glob("*.note"))
    assert len(kept) == 3  # of two shards, and of the labels of both
    for file in kept:
        file.write_bytes(note)
    again = opened(pattern)
    assert torch.equal(again.label_counts, counts)
    assert len(again) == 11


def test_bounded(tmp_path, cache):
    """The copies used longest ago go; what is read stays right."""
    path = numbered_set(tmp_path / "set", [20] * 12, gz=True, labels=False)
    sizes = []
    data = opened(path, classes=0, cache_bytes=200_000)
    for epoch in range(2):
        given = []
        for start in range(240 * epoch, 240 * epoch + 240, 20):
            given += numbers_of(data.batch(start, 20).images)
            sizes.append(size_of(cache))
        assert sorted(given) == list(range(240))
    one = copies(cache)[0].stat().st_size
    assert 5 * one < 200_000 < 12 * one
    # One copy may have appeared before the next round of removal has passed, for each of the four fetching at once.
    assert max(sizes) <= 200_000 + 4 * one
    assert len(copies(cache)) >= 4  # no more is removed than must be


def test_removed_while_it_is_read(tmp_path, cache):
    path = numbered_set(tmp_path / "set", [50, 50], gz=True)
    data, again = opened(path), opened(path)
    expected = numbers_of(again.batch(0, 300).images)
    given = numbers_of(data.batch(0, 10).images)
    for file in copies(cache):
        file.unlink()
    assert given + numbers_of(data.batch(10, 290).images) == expected
    # And another job fetches it again.
    assert numbers_of(opened(path).batch(0, 300).images) == expected


def read_all(path, barrier, results, fetched):
    fetch = Cache._fetch
    Cache._fetch = lambda self, *arguments: (fetched.put(arguments[1]), fetch(self, *arguments))
    barrier.wait()
    data = opened(path)
    results.put(numbers_of(data.batch(0, 200).images))


def test_jobs_at_once(tmp_path, cache):
    """Four processes start on an empty cache: each gets everything, and nothing is left over."""
    path = numbered_set(tmp_path / "set", [50] * 4, gz=True)
    fork = multiprocessing.get_context("fork")
    barrier, results = fork.Barrier(4, timeout=60), fork.Queue()
    fetched = fork.Queue()
    jobs = [fork.Process(target=read_all, args=(path, barrier, results, fetched)) for _ in range(4)]
    for job in jobs:
        job.start()
    given = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert sorted(given[0]) == list(range(200))
    assert given == [given[0]] * 4
    assert len({fetched.get(timeout=10) for _ in range(4)}) == 4  # each shard by one of them
    assert fetched.empty()
    assert len(copies(cache)) == 4
    assert not list(cache.glob("*.tmp"))


def hold(cache, name, ready):
    with Cache(folder=cache, limit=1)._locked(name):
        ready.set()
        time.sleep(60)


def test_a_killed_job_gives_back_its_lock(tmp_path, cache):
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    job = fork.Process(target=hold, args=(str(cache), "name", ready))
    job.start()
    assert ready.wait(30)
    job.kill()
    job.join(30)
    with Cache(folder=str(cache), limit=1)._locked("name"):
        pass


def test_abandoned_pieces_are_removed(tmp_path, cache):
    """Those with the cache's own names: what else lies in the folder stays."""
    cache.mkdir()
    old, new, other = cache / f"{'0' * 32}.tmp", cache / f"{'1' * 32}.tmp", cache / "notes.tmp"
    for file in (old, new, other):
        file.write_bytes(b"piece")
    for file in (old, other):
        os.utime(file, (0, 0))
    opened(numbered_set(tmp_path / "set", [5], gz=True)).batch(0, 5)
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_where_it_lies(tmp_path, monkeypatch):
    assert Cache(folder="/a", limit=1).folder == Path("/a")
    monkeypatch.setenv("REALUID_CACHE", "/b")
    assert Cache(folder=None, limit=1).folder == Path("/b")
    monkeypatch.delenv("REALUID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache(folder=None, limit=1).folder == tmp_path / "realuid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache(folder=None, limit=1).folder == tmp_path / ".cache" / "realuid"


def test_no_place_for_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the cache .* cannot be used"):
        opened(numbered_set(tmp_path / "set", [5]), cache=str(tmp_path / "file" / "cache")).batch(0, 5)


def test_a_flaky_server(tmp_path, monkeypatch):
    """A download that breaks off is tried again, three times in all."""
    folder = numbered_set(tmp_path / "set", [5])
    fs = fsspec.filesystem("memory")
    fs.put(folder, "/flaky", recursive=True)
    calls, get_file = [], type(fs).get_file
    monkeypatch.setattr("realuid.data.shards.fetching.time.sleep", lambda seconds: None)

    def broken(self, source, dest, **options):
        calls.append(source)
        if len(calls) < 3:
            raise ConnectionError("reset by peer")
        return get_file(self, source, dest, **options)

    monkeypatch.setattr(type(fs), "get_file", broken)
    data = Streaming(path="memory://flaky", shape=(1, 2, 2), classes=0)
    data.open(seed=0, device=CPU)
    assert sorted(numbers_of(data.batch(0, 5).images)) == list(range(5))
    assert len(calls) == 3


@pytest.mark.parametrize("gz", [False, True])
def test_http(tmp_path, gz):
    pytest.importorskip("aiohttp")
    folder = numbered_set(tmp_path / "set", [5, 6], gz=gz)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *arguments: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/set"
        assert numbers_of(opened(url).batch(0, 30).images) == numbers_of(opened(folder).batch(0, 30).images)
        pattern = f"{url}/train-{{000000..000001}}.tar{'.gz' * gz}"
        assert numbers_of(opened(pattern).batch(0, 30).images) == numbers_of(opened(folder).batch(0, 30).images)
    finally:
        server.shutdown()
        server.server_close()


def test_shards_are_searched_once(tmp_path, monkeypatch):
    """Without an index each is searched the first time, and none of them after that."""
    path = numbered_set(tmp_path / "set", [2] * 30, labels=False)
    (tmp_path / "set" / "index.json").unlink()
    assert len(opened(f"{path}/*.tar", classes=0)) == 60
    searched = []
    monkeypatch.setattr(Cache, "find", lambda self, *place: searched.append(place))
    assert len(opened(f"{path}/*.tar", classes=0)) == 60
    assert searched == []


def test_those_used_longest_ago_are_removed(tmp_path, cache):
    path = numbered_set(tmp_path / "set", [20] * 8, gz=True, labels=False)
    shards = ShardIndex.read(path).splits["train"].shards
    one = 30_720  # bytes of a tar of 20 small images
    kept = Cache(folder=str(cache), limit=4 * one)
    places = [kept.get(path, shard).path for shard in shards[:4]]
    assert {file.stat().st_size for file in copies(cache)} == {one}
    kept.get(path, shards[0])  # used again: the second is now the oldest
    places += [kept.get(path, shard).path for shard in shards[4:6]]
    assert {str(file) for file in copies(cache)} == {places[i] for i in (0, 3, 4, 5)}
