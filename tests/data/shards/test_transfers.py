"""What arrives is compared with what was asked for: nothing else is kept, and nothing that was changed is trusted."""

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from realuid.data.memory import InMemory
from realuid.data.shards import fetching
from realuid.data.shards.cache import Cache
from realuid.data.shards.index import ShardIndex
from realuid.data.streaming import Streaming
from realuid.utils.errors import DataError
from tests.data.faulty_server import served
from tests.data.handmade import numbered_members, numbered_set, numbers_of, tar

pytest.importorskip("aiohttp")
CPU = torch.device("cpu")


def opened(path, cls=Streaming, **changes):
    data = cls(**{"path": str(path), "shape": (1, 2, 2), "classes": 3} | changes)
    data.open(seed=0, device=CPU)
    return data


def numbers(data):
    return sorted(numbers_of(data.batch(0, len(data)).images))


@pytest.fixture
def site(tmp_path):
    numbered_set(tmp_path / "www" / "set", [5, 6])
    numbered_set(tmp_path / "www" / "gz", [5, 6], gz=True)
    with served(tmp_path / "www") as site:
        yield site


@pytest.mark.parametrize("folder", ["set", "gz"])
@pytest.mark.parametrize("fault", ["short", "cut", "flip", "html", 500, 503])
def test_one_bad_transfer(site, folder, fault):
    """It is noticed by the index's checksum, and the next one is right; nothing of the bad one is left."""
    site.faults["train-000001.tar" + ".gz" * (folder == "gz")] = [fault]
    assert numbers(opened(f"{site.url}/{folder}")) == list(range(11))
    assert numbers(opened(f"{site.url}/{folder}")) == list(range(11))
    assert site.fetched("train-000001.tar" + ".gz" * (folder == "gz")) == 2


@pytest.mark.parametrize("fault", ["short", "flip", "html"])
def test_bad_transfers_that_agree_are_not_kept_for_the_opened(site, fault):
    """Nobody can tell them from a shard that was changed: this job says so, the next one looks again."""
    site.faults["train-000001.tar"] = [fault] * 2
    with pytest.raises(DataError, match=r"train-000001\.tar"):
        numbers(opened(f"{site.url}/set"))
    assert numbers(opened(f"{site.url}/set")) == list(range(11))


def test_a_shard_that_is_damaged_is_mended(site, tmp_path):
    """Tolerated while it is damaged; the next job finds it whole."""
    shard = tmp_path / "www" / "set" / "train-000001.tar"
    whole = shard.read_bytes()
    place = whole.index(b"000000007.png") + 512 + 20
    shard.write_bytes(whole[:place] + b"!!!!" + whole[place + 4 :])
    data = opened(f"{site.url}/set", tolerate=2)
    assert len(set(numbers(data))) == 10
    assert data.faults() == {"undecodable": 1}
    fetched = site.fetched("train-000001.tar")
    numbers(opened(f"{site.url}/set", tolerate=2))
    assert site.fetched("train-000001.tar") > fetched
    shard.write_bytes(whole)
    data = opened(f"{site.url}/set", tolerate=2)
    assert (numbers(data), data.faults()) == (list(range(11)), {})


def test_what_another_process_complained_of_is_looked_at_again(site, tmp_path):
    """Also by one that began before the complaint."""
    shard = tmp_path / "www" / "set" / "train-000001.tar"
    whole = shard.read_bytes()
    entry = ShardIndex.read(f"{site.url}/set").splits["train"].shards[1]
    one, other = (Cache(folder=str(tmp_path / "cache"), limit=1 << 30) for _ in range(2))
    shard.write_bytes(whole[:1024])
    assert "the shard was changed or cut" in one.get(f"{site.url}/set", entry).layout.problem
    shard.write_bytes(whole)
    assert other.get(f"{site.url}/set", entry).layout.problem is None


@pytest.mark.parametrize("change", ["cut", "emptied", "overwritten", "removed"])
def test_copies_that_were_changed_are_not_trusted(site, cache, change):
    assert numbers(opened(f"{site.url}/gz")) == list(range(11))
    for copy in cache.glob("*.tar"):
        data = copy.read_bytes()
        if change == "cut":
            os.truncate(copy, len(data) - 2048)
        elif change == "emptied":
            copy.write_bytes(b"")
        elif change == "overwritten":
            copy.write_bytes(bytes(len(data)))
        else:
            copy.unlink()
    assert numbers(opened(f"{site.url}/gz")) == list(range(11))


def test_by_pattern_a_replaced_shard_is_noticed(site, tmp_path):
    """Of another length, and of the same; the others are not fetched again."""
    (tmp_path / "www" / "set" / "index.json").unlink()
    pattern = f"{site.url}/set/train-{{000000..000001}}.tar"
    for listing in (True, False):
        site.listing = listing
        for first, count in ((20, 6), (30, 6), (40, 9)):
            members = tar(numbered_members(first, count))
            (tmp_path / "www" / "set" / "train-000001.tar").write_bytes(members)
            before = site.fetched("train-000000.tar")
            assert numbers(opened(pattern)) == [*range(5), *range(first, first + count)]
            assert site.fetched("train-000000.tar") <= max(before, 1)


def test_by_pattern_nothing_told_is_nothing_known(site, tmp_path):
    """A server that gives neither tag nor length is asked each time."""
    (tmp_path / "www" / "set" / "index.json").unlink()
    site.tags = site.lengths = site.listing = False
    pattern = f"{site.url}/set/train-{{000000..000001}}.tar"
    for first in (20, 30):
        (tmp_path / "www" / "set" / "train-000001.tar").write_bytes(tar(numbered_members(first, 6)))
        assert numbers(opened(pattern)) == [*range(5), *range(first, first + 6)]


@pytest.mark.parametrize("fault", ["short", "cut"])
def test_by_pattern_a_bad_transfer(site, tmp_path, fault):
    (tmp_path / "www" / "set" / "index.json").unlink()
    site.faults["train-000001.tar"] = [fault]
    assert numbers(opened(f"{site.url}/set/train-{{000000..000001}}.tar")) == list(range(11))


def test_by_pattern_the_limit_holds(tmp_path, cache):
    numbered_set(tmp_path / "set", [20] * 6, gz=True)
    (tmp_path / "set" / "index.json").unlink()
    data = opened(f"{tmp_path}/set/*.tar.gz", cache_bytes=70_000)
    assert numbers(data) == list(range(120))
    for _ in range(50):  # threads fetch ahead
        if sum(copy.stat().st_size for copy in cache.glob("*.tar")) <= 70_000:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"the copies are larger than the limit: {sorted(cache.glob('*.tar'))}")


def test_copies_that_are_handed_over_together_keep_the_limit(tmp_path, cache):
    """Each is spared while the other is counted: whoever ends last removes one."""
    folder, together, begun = tmp_path / "set", threading.Barrier(2), set()
    numbered_set(folder, [20, 20], gz=True)

    class Together(Cache):
        def _fetch(self, *arguments):
            super()._fetch(*arguments)
            if arguments[-1] not in begun:  # the one that was removed may be fetched again, alone
                begun.add(arguments[-1])
                together.wait()

    kept = Together(folder=str(cache), limit=70_000)
    with ThreadPoolExecutor(2) as threads:
        shards = next(iter(ShardIndex.read(str(folder)).splits.values())).shards
        list(threads.map(lambda shard: kept.get(str(folder), shard), shards))
    assert len(list(cache.glob("*.tar"))) == 1


def test_signed_addresses(site, tmp_path):
    """Hundreds of characters behind a `?`, an index that must not be read, no listing."""
    site.listing = False
    site.faults["index.json"] = [403] * 9
    query = "?X-Amz-Signature=" + "0123456789abcdef" * 30
    for cls, path in ((Streaming, f"{site.url}/set/train-000001.tar{query}"),):
        assert numbers(opened(path, cls)) == list(range(5, 11))
    assert numbers(opened(f"{site.url}/gz/train-000001.tar.gz{query}")) == list(range(5, 11))


def test_many_shards_are_not_counted_again_and_again(tmp_path, cache, monkeypatch):
    """The folder is listed once for each job, and not for each shard."""
    path = numbered_set(tmp_path / "set", [1] * 60, gz=True, labels=False)
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (listed.append(folder), scandir(folder))[1])
    kept = Cache(folder=str(cache), limit=10**9)
    for shard in ShardIndex.read(path).splits["train"].shards:
        kept.get(path, shard)
    assert listed.count(cache) == 1
    assert len(list(cache.iterdir())) <= 60 * 3 + 2  # copy, layout and perhaps a lock of each
    assert int((cache / "size").read_text()) == sum(copy.stat().st_size for copy in cache.glob("*.tar"))
    full = Cache(folder=str(cache), limit=10**9)
    for shard in ShardIndex.read(numbered_set(tmp_path / "more", [2] * 60, gz=True)).splits["train"].shards:
        full.limit = 80 * 10240
        full.get(str(tmp_path / "more"), shard)
    assert sum(copy.stat().st_size for copy in cache.glob("*.tar")) <= 80 * 10240
    assert listed.count(cache) < 20


def test_a_full_disk_is_not_a_damaged_shard(site, cache, monkeypatch):
    """It stops the run in one line, also where damage is tolerated, and older copies make room first."""
    fs = fetching.origin_of(site.url, "x").fs
    get_file, room = fs.get_file, [10**9]

    def get(source, dest, **options):
        if room[0] <= sum(copy.stat().st_size for copy in cache.glob("*.tar")):
            Path(dest).write_bytes(b"a piece")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return get_file(source, dest, **options)

    monkeypatch.setattr(fs, "get_file", get)
    room[0] = 1
    kept = Cache(folder=str(cache), limit=10**9)
    for shard in ShardIndex.read(f"{site.url}/set").splits["train"].shards:
        assert Path(kept.get(f"{site.url}/set", shard).path).exists()
    assert len(list(cache.glob("*.tar"))) == 1
    room[0] = 0
    for copy in cache.glob("*.tar"):
        copy.unlink()
    with pytest.raises(DataError, match=r"the disk is full.*Bind Streaming\.cache") as caught:
        numbers(opened(f"{site.url}/set", tolerate=1000))
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*.tmp"))


def test_a_cache_that_cannot_be_written(tmp_path):
    path = numbered_set(tmp_path / "set", [5], gz=True)
    for place in ("/proc/nowhere", str(tmp_path / "set" / "index.json"), "/dev/null/x"):
        with pytest.raises(DataError, match=r"the cache .* cannot be used: .* REALUID_CACHE, to a folder") as caught:
            numbers(opened(path, cache=place, tolerate=1000))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", [InMemory, Streaming])
def test_a_shard_that_is_not_there(site, tmp_path, cls):
    (tmp_path / "www" / "set" / "train-000001.tar").unlink()
    with pytest.raises(
        DataError, match=r"train-000001\.tar is in the index but cannot be opened: there is no such file"
    ):
        numbers(opened(f"{site.url}/set", cls))
