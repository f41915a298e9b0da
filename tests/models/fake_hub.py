"""A model hub of one model, over real HTTP: as much of it as finding and downloading a model takes."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "org/model"


class FakeHub(ThreadingHTTPServer):
    """Serves `files` as the commit `commit` of the branch main; `requests` are those asked so far."""

    def __init__(self, files: dict[str, bytes], commit: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.commit = commit
        self.delay_s = 0.0
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[str]:
        """Paths of the files downloaded so far, sorted, each as often as it was."""
        matches = [re.match(r"GET .*/resolve/\w+/(.*)", request) for request in self.requests]
        return sorted(match[1] for match in matches if match)


@contextmanager
def serve(files: dict[str, bytes], commit: str) -> Iterator[FakeHub]:
    with FakeHub(files, commit) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        time.sleep(self.server.delay_s)
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        if path == f"/api/models/{NAME}" or path.startswith(f"/api/models/{NAME}/revision/"):
            self._tell_model(path.partition("/revision/")[2] or "main")
        elif path == f"/api/models/{NAME}/tree/{self.server.commit}":
            self._send(200, json.dumps(self._tree()).encode(), {})
        elif path.startswith(f"/{NAME}/resolve/{self.server.commit}/"):
            self._send_file(path.split("/", 5)[5])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def _tell_model(self, revision: str) -> None:
        if revision not in ("main", self.server.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        files = [{"rfilename": path, "size": len(content)} for path, content in self.server.files.items()]
        self._send(200, json.dumps({"id": NAME, "sha": self.server.commit, "siblings": files}).encode(), {})

    def _tree(self) -> list[dict[str, object]]:
        files = self.server.files.items()
        return [{"type": "file", "path": path, "size": len(content), "oid": ""} for path, content in files]

    def _send_file(self, path: str) -> None:
        content = self.server.files[path]
        tag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": self.server.commit})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with suppress(BrokenPipeError):  # of one that waits no longer
                self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
