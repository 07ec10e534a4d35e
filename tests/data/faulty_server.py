"""An HTTP server in this process whose answers go wrong when they are told to."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FaultyServer:
    """Files of a folder over HTTP.

    Attributes:
        url: of the folder.
        faults: by the end of a path, what happens to the next reads of it, one after the other: "short" (half of it, no
            length announced), "cut" (half of what is announced), "flip" (one byte changed), "html", or a status.
        asked: method and path of every request, with its query.
        listing: whether folders are listed.
        lengths: whether lengths are announced.
        tags: whether there is an ETag, which follows the content.
    """

    def __init__(self, root: Path, server: ThreadingHTTPServer) -> None:
        self.root, self.url = root, f"http://127.0.0.1:{server.server_port}"
        self.faults: dict[str, list[str | int]] = {}
        self.asked: list[tuple[str, str]] = []
        self.listing, self.lengths, self.tags = True, True, True

    def fetched(self, name: str) -> int:
        """How often a file was read."""
        return sum(method == "GET" and path.partition("?")[0].endswith(name) for method, path in self.asked)

    def fault(self, path: str) -> str | int | None:
        for end, waiting in self.faults.items():
            if path.endswith(end) and waiting:
                return waiting.pop(0)
        return None


@contextmanager
def served(root: Path) -> Iterator[FaultyServer]:
    """The files below `root`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, body: bool) -> None:
            site.asked.append((self.command, self.path))
            path = urllib.parse.unquote(self.path.partition("?")[0])
            file = site.root / path.lstrip("/")
            fault = site.fault(path) if body else None
            if isinstance(fault, int):
                return self.give(fault, b"no", body)
            if file.is_dir() and site.listing:
                links = "".join(f'<a href="{entry.name}">{entry.name}</a>\n' for entry in sorted(file.iterdir()))
                return self.give(200, links.encode(), body, "text/html")
            if not file.is_file():
                return self.give(404, b"no", body)
            data = file.read_bytes()
            if fault == "html":
                return self.give(200, b"<html>sign in</html>", body, "text/html")
            if fault == "flip":
                data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]
            half = data[: len(data) // 2]
            if fault == "short":
                return self.give(200, half, body, length=None)
            if fault == "cut":
                return self.give(200, half, body, length=len(data))
            return self.give(200, data, body, length=len(data) if site.lengths else None)

        def give(self, status: int, data: bytes, body: bool, kind: str = "x/y", length: int | None = -1) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if length is None:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(data) if length == -1 else length))
            if site.tags and status == 200:
                self.send_header("ETag", f'"{hash(data)}"')
            self.end_headers()
            if body:
                self.wfile.write(data)
            self.close_connection = length != len(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = FaultyServer(root, server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
