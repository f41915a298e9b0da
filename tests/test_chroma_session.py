"""Which answers are worth another attempt, and what is said about the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from job.chroma_session import NotThereError, ServerFailedError, Session
from job.errors import DependencyError


@contextmanager
def server(statuses: list[int], kind: str = "application/json") -> Iterator[tuple[Session, str]]:
    """A server that answers with one status after another, the last one for ever, and a session for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        log_message: Callable[..., None] = lambda *_: None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, args=(0.01,)).start()
        url = f"http://me:secret@127.0.0.1:{http.server_port}"
        with Session(url, timeout_s=2, patience_s=0, headers=httpx.Headers()) as session:
            yield session, f"{url}/api/v2/heartbeat"
        http.shutdown()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_in_trouble_is_asked_again(status: int) -> None:
    with server([status, status, 200]) as (session, url):
        assert session.request("get", url).status_code == 200


def test_trouble_that_stays_ends_at_the_deadline_and_is_told_in_one_line() -> None:
    with server([503]) as (session, url), pytest.raises(ServerFailedError) as failure:
        session.request("get", url)

    message = str(failure.value)
    assert message.startswith("chroma.url: http://127.0.0.1:")
    assert "failed GET heartbeat" in message
    assert "answered 503" in message
    assert "secret" not in message
    assert "\n" not in message


@pytest.mark.parametrize(("status", "kind"), [(404, NotThereError), (400, DependencyError), (413, DependencyError)])
def test_a_refusal_is_not_asked_again(status: int, kind: type[DependencyError]) -> None:
    with server([status, 200]) as (session, url), pytest.raises(kind, match=f"1 attempts.*answered {status}"):
        session.request("get", url)


def test_a_server_of_another_kind_is_refused() -> None:
    with server([200], "text/html") as (session, url), pytest.raises(DependencyError, match="answered 200"):
        session.request("get", url)


def test_a_proxy_in_the_environment_is_passed_by_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    with server([200]) as (session, url):
        assert session.request("get", url).status_code == 200
