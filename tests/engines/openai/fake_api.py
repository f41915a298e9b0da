"""A stand-in for an OpenAI-compatible API, which can't be had in a test: real HTTP, made-up answers.

The tests in tests/integration/test_openai.py ask a real one.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(frozen=True)
class Asked:
    """A request: its body, its headers, and when it came."""

    body: dict[str, Any]
    headers: Message
    at: float

    @property
    def user(self) -> str:
        """The user message."""
        text: str = self.body["messages"][-1]["content"]
        return text


@dataclass(frozen=True)
class Reply:
    """What the API answers; a string is sent as it is."""

    status: int
    body: object
    headers: dict[str, str] = field(default_factory=dict)


def completion(content: object, finish_reason: str | None = "stop", usage: object = USAGE, **fields: object) -> Reply:
    """An answer as the API's reference has it, with further `fields` of the message."""
    message = {"role": "assistant", "content": content} | fields
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
    return Reply(200, body if usage is None else {**body, "usage": usage})


def refusal(status: int, message: str, **headers: str) -> Reply:
    """An error as the API's reference has it."""
    error = {"message": message, "type": "some_error", "param": None, "code": None}
    return Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


def echo(asked: Asked) -> Reply:
    return completion(f"echo {asked.user}")


class FakeAPI(ThreadingHTTPServer):
    """Answers with `reply`, after `delay_s`; `asked` are the requests so far, `peak` how many there were at once."""

    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.reply: Callable[[Asked], Reply] = echo
        self.delay_s = 0.0
        self.asked: list[Asked] = []
        self.peak = 0
        self.connections: list[socket.socket] = []
        self.lock = threading.Lock()
        self._now = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def users(self) -> list[str]:
        """User messages of all requests, in the order they came."""
        return [asked.user for asked in self.asked]

    @contextmanager
    def at_once(self, asked: Asked) -> Iterator[None]:
        """Count the request, and those in hand."""
        with self.lock:
            self.asked.append(asked)
            self._now += 1
            self.peak = max(self.peak, self._now)
        yield
        with self.lock:
            self._now -= 1

    def hang_up(self) -> None:
        """End all connections, as a server that ends does."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve(port: int = 0) -> Iterator[FakeAPI]:
    with FakeAPI(port) as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
            thread.join()
            api.hang_up()


class _Handler(BaseHTTPRequestHandler):
    server: FakeAPI
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not body:  # of one that was gone before it had sent it
            return
        asked = Asked(json.loads(body), self.headers, time.monotonic())
        with self.server.at_once(asked):
            time.sleep(self.server.delay_s)
            reply = self.server.reply(asked) if self.path == "/v1/chat/completions" else Reply(404, {"detail": "no"})
        with suppress(OSError):  # of one that waits no longer
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        content = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
