"""A server that speaks as much of the hub's API as reading a repository takes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves a folder as the repository `owner/name`; others are missing, `owner/gated` is gated, and `owner/closed` is
    gated as the hub does it: its files are listed, and may not be read.

    Attributes:
        asked: paths of all requests.
    """

    def __init__(self, folder):
        self.asked = []
        hub, root = self, Path(folder)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                path = unquote(urlparse(self.path).path)
                hub.asked.append(path)
                if path.startswith("/owner/closed/resolve/"):
                    return self.answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
                path = path.replace("owner/closed", "owner/name")
                if path.startswith("/api/models/owner/name"):
                    return self.about(path.removeprefix("/api/models/owner/name").strip("/"))
                if path.startswith(f"/owner/name/resolve/{COMMIT}/"):
                    return self.file(root / path.removeprefix(f"/owner/name/resolve/{COMMIT}/"))
                if "owner/gated" in path:
                    return self.answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
                return self.answer(404, {"error": "none"}, {"X-Error-Code": "RepoNotFound"})

            def about(self, rest):
                if rest in ("", "revision/main", f"revision/{COMMIT}", "revision/v1"):
                    return self.answer(200, {"id": "owner/name", "sha": COMMIT, "siblings": []})
                if rest.startswith(f"tree/{COMMIT}"):
                    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
                    return self.answer(200, [self.entry(path) for path in files])
                return self.answer(404, {"error": "none"}, {"X-Error-Code": "RevisionNotFound"})

            def entry(self, path):
                name = path.relative_to(root).as_posix()
                return {"type": "file", "path": name, "size": path.stat().st_size, "oid": f"{abs(hash(name)):040x}"}

            def file(self, path):
                content, status, headers = path.read_bytes(), 200, {"ETag": '"x"', "X-Repo-Commit": COMMIT}
                if part := self.headers.get("Range"):
                    first, last = part.removeprefix("bytes=").split("-")
                    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                    content, status = content[int(first) : int(last or len(content)) + 1], 206
                return self.answer(status, content, headers)

            def answer(self, status, content, headers=None):
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
