"""A server that speaks as much of the hub's API as a commit takes: large files by Git LFS, small ones in the commit."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

REPOSITORY = "/api/models/owner/name"


class Hub:
    """Keeps commits to `owner/name`, by the token `good`; the token `reader` may not write, and nothing else is there.

    Attributes:
        files: what was committed, by name.
        cards: front matter that was looked at.
    """

    def __init__(self):
        self.files, self.cards, self.objects = {}, [], {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.route(b"")

            def do_POST(self):
                self.route(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def do_PUT(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hub.objects[hashlib.sha256(content).hexdigest()] = content
                self.answer(200, {})

            def route(self, body):
                path, token = urlparse(self.path).path, self.headers.get("Authorization", "")
                if token not in ("Bearer good", "Bearer reader"):
                    return self.answer(401, {"error": "Invalid credentials"})
                if path == "/api/validate-yaml":
                    hub.cards.append(json.loads(body)["content"])
                    return self.answer(200, {"warnings": [], "errors": []})
                if not path.startswith((REPOSITORY, "/owner/name.git")):
                    return self.answer(404, {"error": "none"}, {"X-Error-Code": "RepoNotFound"})
                if token == "Bearer reader":
                    return self.answer(403, {"error": "no write access"})
                return self.written(path.removeprefix(REPOSITORY), body)

            def written(self, path, body):
                if path == "/auth-check/write":
                    return self.answer(200, {})
                if path == "/preupload/main":
                    modes = [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                    return self.answer(200, {"files": modes})
                if path.endswith("/info/lfs/objects/batch"):
                    return self.answer(200, {"transfer": "basic", "objects": self.uploads(json.loads(body))})
                if path == "/commit/main":
                    return self.commit([json.loads(line) for line in body.splitlines()])
                return self.answer(404, {"error": path})

            def uploads(self, asked):
                return [
                    one | {"actions": {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}}
                    for one in asked["objects"]
                ]

            def commit(self, lines):
                for line in lines:
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.objects[value["oid"]]
                found = {"commitOid": "0" * 40, "commitUrl": f"{hub.url}/owner/name/commit/{'0' * 40}"}
                return self.answer(200, {"success": True, **found})

            def answer(self, status, content, headers=None):
                body = json.dumps(content).encode()
                self.send_response(status)
                kind = {"Content-Type": "application/json", "Content-Length": str(len(body))}
                for name, value in {**kind, **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
