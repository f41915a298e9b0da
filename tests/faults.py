"""A proxy that harms some of the requests between a client and a server (S3, Chroma, an LLM), and counts them all."""

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session

from tests.services import S3Server

UPSTREAM_S = 60.0
CONNECTIONS = 64
OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass
class Request:
    """A request as it came, with its body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """`GET list` and `PUT part`, for example: what S3 takes it for."""
        path, _, query = self.target.partition("?")
        names = parse_qs(query, keep_blank_values=True).keys()
        if names & {"list-type", "delimiter", "prefix"}:
            return f"{self.method} list"
        if "partNumber" in names:
            return f"{self.method} part"
        if names & {"uploads", "uploadId"}:
            return f"{self.method} upload"
        return f"{self.method} {'object' if '/' in path.strip('/') else 'bucket'}"


@dataclass
class Answer:
    """An answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes


Forward = Callable[[Request], Answer]
# What harms a request: it may change it, forward it or not, and has the connection to do worse to.
Harm = Callable[[Request, Forward, "Connection"], Answer | None]


@dataclass
class Fault:
    """Do `harm` to each `every`th request whose `METHOD target` holds the pattern `on`, `times` times at most."""

    harm: Harm
    every: int = 1
    on: str = ""
    times: int | None = None
    met: int = 0
    done: int = 0

    def due(self, request: Request) -> bool:
        """Count the request, and tell whether it is to be harmed."""
        if not re.search(self.on, f"{request.method} {request.target}"):
            return False
        self.met += 1
        return self.met % self.every == 0 and self.done != self.times


@dataclass
class Proxy:
    """A proxy that runs: what it does to requests from now on, and what it has seen."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def counts(self) -> Counter[str]:
        """How many requests of each kind came, harmed ones too."""
        return Counter(request.kind for request in self.seen)

    def harm(self, request: Request) -> Harm | None:
        """Count the request; the first fault that is due, if there is one."""
        with self.lock:
            self.seen.append(request)
            due = [fault for fault in self.faults if fault.due(request)]
            for fault in due[:1]:
                fault.done += 1
        return due[0].harm if due else None


class Connection(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of an answer are 40 ms apart
    proxy: Proxy
    upstream: str
    session: URLLib3Session  # it hears a refusal that comes before it has sent its body

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, HTTPClientError):  # the client or the server is gone: so is the connection
            self.reset()

    def do_GET(self) -> None:
        request = Request(self.command, self.path, dict(self.headers.items()), self._body())
        harm = self.proxy.harm(request)
        answer = harm(request, self._forward, self) if harm else self._forward(request)
        if answer:
            self.reply(answer, len(answer.body))

    do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_GET  # noqa: N815 - names that the base class looks up

    def reply(self, answer: Answer, most: int) -> None:
        """Send an answer, but at most so many bytes of its body."""
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[:most])

    def reset(self) -> None:
        """End the connection with a reset, as a server that dies does."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _forward(self, request: Request) -> Answer:
        """Ask the server; `Host` stays the proxy's, since it is signed."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OF_ONE_HOP}
        asked = AWSPreparedRequest(request.method, self.upstream + request.target, headers, request.body, False)
        response = self.session.send(asked)
        headers = {name: value for name, value in response.headers.items() if name.lower() not in OF_ONE_HOP}
        if request.method != "HEAD":
            headers["Content-Length"] = str(len(response.content))
        return Answer(response.status_code, headers, response.content)


@contextmanager
def proxy(upstream: str, *faults: Fault) -> Iterator[Proxy]:
    """Run a proxy in front of the server at `upstream`."""
    running = Proxy("", list(faults))
    session = URLLib3Session(timeout=UPSTREAM_S, max_pool_connections=CONNECTIONS)
    handler = type("Handler", (Connection,), {"proxy": running, "upstream": upstream, "session": session})
    with _Server(("127.0.0.1", 0), handler) as server:
        running.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield running
        finally:
            running.ended.set()  # lets go of what stalls
            server.shutdown()
            thread.join()
            session.close()


class _Server(ThreadingHTTPServer):
    block_on_close = False
    request_queue_size = 128


def refuse(status: int, code: str) -> Harm:
    """Answer with one of S3's errors, without asking the server."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>injected</Message></Error>'.encode()
    headers = {"Content-Type": "application/xml", "Content-Length": str(len(body))}

    def harm(request: Request, forward: Forward, connection: Connection) -> Answer:
        return Answer(status, headers, b"" if request.method == "HEAD" else body)

    return harm


def reset(after: int = 0) -> Harm:
    """Let the server do as asked, then reset the connection after so many bytes of the answer's body."""

    def harm(request: Request, forward: Forward, connection: Connection) -> None:
        answer = forward(request)
        if after:
            connection.reply(answer, after)
        connection.reset()

    return harm


def cut(request: Request, forward: Forward, connection: Connection) -> None:
    """End the answer in good order half way through its body."""
    answer = forward(request)
    connection.reply(answer, len(answer.body) // 2)
    connection.close_connection = True


def stall(request: Request, forward: Forward, connection: Connection) -> None:
    """Never answer."""
    connection.proxy.ended.wait()
    connection.reset()


@dataclass
class Hold:
    """Keep requests from the server until `released`; `arrived` tells that there is one."""

    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: Request, forward: Forward, connection: Connection) -> Answer:
        self.arrived.set()
        self.released.wait()
        return forward(request)


def forget(header: str, server: S3Server) -> Harm:
    """Forward without a header, signed anew, as a server that doesn't know the header would take it."""

    def harm(request: Request, forward: Forward, connection: Connection) -> Answer:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in {header.lower(), "expect"}
        }
        host = headers.get("Host") or headers["host"]
        signed = AWSRequest(request.method, f"http://{host}{request.target}", headers, request.body)
        S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", server.region).add_auth(signed)
        return forward(Request(request.method, request.target, dict(signed.headers.items()), request.body))

    return harm
