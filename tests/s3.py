"""A real S3 server in this process, and one that is slow or fails when it is told to."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest


class Weather:
    """What comes between a client and the server.

    Attributes:
        failures: so many writes are answered with status 503 from now on.
        open: writes wait until it is set, as it is at first.
    """

    def __init__(self, app) -> None:
        self.app, self.failures, self.open = app, 0, threading.Event()
        self.open.set()

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] in ("PUT", "POST") and "moto-api" not in environ["PATH_INFO"]:
            self.open.wait(60)
            if self.failures > 0:
                self.failures -= 1
                start_response("503 Slow Down", [("Content-Length", "0")])
                return [b""]
        return self.app(environ, start_response)


@contextmanager
def served(monkeypatch) -> Iterator[tuple[fsspec.AbstractFileSystem, Weather]]:
    """The bucket `bucket` on a server of its own, found by s3:// URLs in this process and its children. File systems
    that other tests left open know neither server nor keys."""
    s3fs = pytest.importorskip("s3fs")
    application = pytest.importorskip("moto.server")
    from werkzeug.serving import make_server

    s3fs.S3FileSystem.clear_instance_cache()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    weather = Weather(application.DomainDispatcherApplication(application.create_backend_app))
    server = make_server("127.0.0.1", port, weather, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    fs = fsspec.filesystem("s3")
    fs.mkdir("bucket")
    yield fs, weather
    server.shutdown()
    thread.join()
    s3fs.S3FileSystem.clear_instance_cache()
