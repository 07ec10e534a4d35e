"""Places that are far away: whatever is wrong with them is told in one line that says what it is."""

import gzip
import http.server
import socket
import threading
import zipfile

import fsspec
import pytest
import torch
from fsspec.config import conf

from realuid.commands.make_shards import main
from realuid.data.memory import InMemory
from realuid.data.shards.index import ShardIndex, has_index
from realuid.data.shards.location import split_url
from realuid.data.streaming import Streaming
from realuid.utils import budget, remote
from realuid.utils.errors import DataError
from tests import s3
from tests.data.faulty_server import served
from tests.data.handmade import numbered_set, numbers_of
from tests.data.making import fill, images, make, refused, stored

pytest.importorskip("aiohttp")
CPU = torch.device("cpu")


def complaint(path, cls=Streaming):
    """What is said when a set is asked for, and when it is opened: one and the same line."""
    data = cls(path=path, shape=(1, 2, 2), classes=3)
    said = []
    for ask in (data.missing, lambda: data.open(seed=0, device=CPU)):
        with pytest.raises(DataError) as caught:
            raise DataError(ask() or "nothing is missing")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    return said[0]


@pytest.fixture
def site(tmp_path):
    numbered_set(tmp_path / "www" / "set", [5, 6])
    with served(tmp_path / "www") as site:
        yield site


@pytest.mark.parametrize("cls", [InMemory, Streaming])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "access is denied (401)"),
        (403, "access is denied (403)"),
        (500, "the server fails with status 500"),
        (503, "the server fails with status 503"),
        (429, "the server refuses with status 429"),
    ],
)
def test_a_server_that_refuses(site, cls, status, words):
    """It does not say that there is no data set."""
    site.faults["index.json"] = [status] * 20
    assert f"{site.url}/set/index.json cannot be read: {words}" in complaint(f"{site.url}/set", cls)


def test_no_data_set_there(site):
    assert "no data set" in complaint(f"{site.url}/nothing")


@pytest.mark.parametrize("name", ["a.parquet", "prompts.txt?sig=1", "train_data_batch_1.npz"])
def test_files_that_are_read_from_this_machine_alone(name, tmp_path, capsys):
    assert "lies far away: download it first" in refused(capsys, f"http://127.0.0.1:9/{name}", tmp_path / "out")


def test_a_page_in_the_place_of_a_folder(site, tmp_path, capsys):
    """It lists nothing, and tells no lengths."""
    (tmp_path / "www" / "page").write_text("<html><a href='x.png'>please log in</a></html>")
    site.lengths = False
    refused(capsys, f"{site.url}/page", tmp_path / "out")


@pytest.mark.parametrize("kind", ["a bomb", "no end"])
def test_a_server_that_would_fill_the_memory(kind, monkeypatch):
    """What it sends is not unpacked, whatever it says of it, and not read for ever."""
    monkeypatch.setattr(budget, "FREE", 1 << 22)
    # fsspec lets users add headers, which must not bring back aiohttp's own `Accept-Encoding: gzip`.
    monkeypatch.setitem(conf, "http", conf["http"] | {"client_kwargs": {"headers": {"X-User": "me"}}})
    sent, asked = [], []
    body = gzip.compress(bytes(1 << 26)) if kind == "a bomb" else bytes(1 << 20)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments): ...

        def do_GET(self):
            asked.append((self.headers["Accept-Encoding"], self.headers["X-User"]))
            self.send_response(200)
            if kind == "a bomb":
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                while len(sent) < 100:
                    sent.append(self.wfile.write(body))
                    if kind == "a bomb":
                        return
            except OSError:
                pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        line = complaint(f"http://127.0.0.1:{server.server_port}/set")
        server.shutdown()
    assert ("is not JSON" if kind == "a bomb" else "the server sends more than 4.2 MB and no end") in line
    assert sum(sent) < 1 << 26
    assert set(asked) == {("identity", "me")}


def test_nobody_answers():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "it cannot be reached" in complaint(f"http://127.0.0.1:{port}/set")
    assert "it cannot be reached" in complaint("http://no.such.host.invalid/set")


@pytest.fixture
def no_keys(monkeypatch, tmp_path):
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def test_a_bucket_without_credentials(no_keys):
    line = complaint("s3://some-bucket/set")
    assert "it needs credentials (Unable to locate credentials)" in line
    assert "AWS_ACCESS_KEY_ID" in line


@pytest.mark.parametrize("url", ["gs://bucket/set", "abfs://container/set", "s9://x/set"])
def test_kinds_of_places_that_are_not_installed(url):
    assert f"{url} cannot be opened" in complaint(url)


def test_hugging_faces_hub(monkeypatch):
    """Its file system raises errors of a library of its own as soon as it is named."""

    class ConnectError(Exception):
        pass

    def refuse(*arguments, **options):
        raise ConnectError("[Errno -2] Name or service not known\nfor a long\nstory")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    line = complaint("hf://datasets/someone/something")
    assert line == (
        "hf://datasets/someone/something cannot be opened: it cannot be reached: [Errno -2] Name or service not known"
    )


def test_a_store_that_is_real(tmp_path, monkeypatch):
    """S3: written, read, streamed, packed anew; a key that is not there, a bucket that is not."""
    fill(tmp_path / "in", [f"{'ab'[i % 2]}/{i}.png" for i in range(9)], images(9))
    with s3.served(monkeypatch) as (fs, _):
        url = "s3://bucket/sets/one"
        index = make(tmp_path / "in", url, "--shard-size", "4", "--workers", "0")
        assert has_index(url)
        assert not has_index("s3://bucket/sets/two")
        one, other = (stored(url, cls=cls) for cls in (InMemory, Streaming))
        assert torch.equal(one.images, other.images)
        assert fs.exists("bucket/sets/one/preview.png")
        pattern = make(f"{url}/train-*.tar", tmp_path / "out")
        assert pattern.splits["train"].samples == index.splits["train"].samples == 9
        assert "no data set" in complaint("s3://bucket/sets/two")
        assert "no data set" in complaint("s3://no-such-bucket/set")
        fs.pipe_file("bucket/half/unfinished.json", b"{}")
        assert main([str(tmp_path / "in"), "s3://bucket/half", "--quiet"]) == 2


def test_errors_of_writing(tmp_path, monkeypatch, capsys):
    """A store that fails while it is written to."""
    fill(tmp_path / "in", ["a.png"], images(1))
    with s3.served(monkeypatch) as (_, weather):
        weather.failures = 1000
        line = refused(capsys, tmp_path / "in", "s3://bucket/sets/one")
        assert "s3://bucket/sets/one" in line
        assert "cannot be written" in line


def test_https_without_listing(site, tmp_path):
    """An index names its shards, and braces do: no folder is ever listed."""
    site.listing = False
    for path in (f"{site.url}/set", f"{site.url}/set/train-{{000000..000001}}.tar"):
        data = Streaming(path=path, shape=(1, 2, 2), classes=3)
        data.open(seed=0, device=CPU)
        assert sorted(numbers_of(data.batch(0, 11).images)) == list(range(11))
    assert make(f"{site.url}/set", tmp_path / "out").splits["train"].samples == 11
    assert make(f"{site.url}/set/train-{{000000..000001}}.tar", tmp_path / "pattern").splits["train"].samples == 11
    assert not any(path.rstrip("/").endswith("/set") for _, path in site.asked if "?" not in path)


def test_a_zip_over_http(site, tmp_path, capsys):
    fill(tmp_path / "in", ["a.png", "b.png"], images(2))
    with zipfile.ZipFile(tmp_path / "www" / "x.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.write(tmp_path / "in" / name, name)
    line = refused(capsys, f"{site.url}/x.zip", tmp_path / "out")  # which is read from many places
    assert "x.zip cannot be read: the server gives no parts of files: download it first" in line
    assert "cannot be read" in refused(capsys, f"{site.url}/y.zip", tmp_path / "no")
    assert "cannot be" in refused(capsys, "http://no.such.host.invalid/set", tmp_path / "no")


def test_a_web_page_instead_of_an_index(site, tmp_path):
    (tmp_path / "www" / "set" / "index.json").write_text("<html>please sign in</html>")
    assert "index.json is not JSON" in complaint(f"{site.url}/set")


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("/a/b.tar", "/a", "b.tar"),
        ("https://h/a/b.tar?x=1/2&y=?", "https://h/a", "b.tar?x=1/2&y=?"),
        ("s3://b/what?.tar", "s3://b", "what?.tar"),
    ],
)
def test_addresses(path, folder, name):
    assert split_url(path) == (folder, name)


def test_reasons():
    """What fsspec says of every failing server, and what it means."""
    missing = FileNotFoundError("x")
    assert (remote.is_missing(missing), remote.reason(missing)) == (True, "there is no such file")

    class Answer(Exception):
        def __init__(self, status):
            super().__init__(f"{status}, message='no'")
            self.status = status

    for status, gone, words in ((404, True, "no such file"), (403, False, "denied (403)"), (502, False, "status 502")):
        error = FileNotFoundError("x")
        error.__cause__ = Answer(status)
        assert remote.is_missing(error) == gone
        assert words in remote.reason(error)
    TooManyRedirects = type("TooManyRedirects", (Exception,), {"status": 0})  # aiohttp's
    error = FileNotFoundError("x")
    error.__cause__ = TooManyRedirects("0, message=''")
    assert not remote.is_missing(error)
    assert remote.reason(error) == "the server redirects without end"
    assert "download it first" in remote.reason(ValueError("Cannot seek streaming HTTP file"))
    error = FileNotFoundError("x")
    error.__cause__ = KeyError("x")  # of file systems in memory
    assert remote.is_missing(error)


def test_indices_are_read_as_they_are(site):
    assert ShardIndex.read(f"{site.url}/set").splits["train"].samples == 11
