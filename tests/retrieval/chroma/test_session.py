"""Which answers are worth another attempt, and what is said about the others."""

import base64
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ragjob.config import load_settings
from ragjob.errors import DependencyError
from ragjob.retrieval.chroma.collection import connect
from ragjob.retrieval.chroma.expected import Target
from ragjob.retrieval.chroma.session import NotThereError, ServerFailedError, Session


class Quiet(BaseHTTPRequestHandler):
    """Answers `{}`, which is enough of a heartbeat, and doesn't log."""

    log_message: Callable[..., None] = lambda *_: None

    def do_GET(self) -> None:
        self.answer(200)

    def answer(self, status: int, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@contextmanager
def serving(handler: type[Quiet], patience_s: float = 0, timeout_s: float = 2) -> Iterator[tuple[Session, str]]:
    """A server, a session for it, and the server's url."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, args=(0.01,)).start()
        url = f"http://me:secret@127.0.0.1:{http.server_port}"
        with Session(url, timeout_s, patience_s, httpx.Headers()) as session:
            yield session, url
        http.shutdown()


@contextmanager
def server(statuses: list[int], kind: str = "application/json", timeout_s: float = 2) -> Iterator[tuple[Session, str]]:
    """A server that answers with one status after another, the last one for ever, and a session for it."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self.answer(statuses.pop(0) if len(statuses) > 1 else statuses[0], kind)

    with serving(Handler, timeout_s=timeout_s) as (session, url):
        yield session, f"{url}/api/v2/heartbeat"


@contextmanager
def busy(seconds: float, patience_s: float, heart: int = 200) -> Iterator[tuple[Session, str]]:
    """A server that answers what it is asked at first after so many seconds, its heartbeat at once."""
    until = time.monotonic() + seconds

    class Handler(Quiet):
        def do_POST(self) -> None:
            while time.monotonic() < until and not closing.wait(0.05):
                pass
            with suppress(BrokenPipeError, ConnectionResetError):
                self.answer(200)

        def do_GET(self) -> None:
            self.answer(heart)

    closing = Event()
    with serving(Handler, patience_s) as (session, url):
        yield session, f"{url}/api/v2/collections/add"
        closing.set()


@contextmanager
def dying(times: int) -> Iterator[tuple[Session, str]]:
    """A server that ends the connection on a request, so many times, and is back at once."""
    deaths = [None] * times

    class Handler(Quiet):
        def do_POST(self) -> None:
            if deaths:
                deaths.pop()
                self.close_connection = True
            else:
                self.answer(200)

    with serving(Handler, timeout_s=20) as (session, url):
        yield session, f"{url}/api/v2/collections/query"


def test_a_password_in_the_variable_is_what_the_server_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Handler(Quiet):
        def do_GET(self) -> None:
            sent.append(self.headers["Authorization"])
            self.answer(200)

    with serving(Handler) as (_, url):
        monkeypatch.setenv("RAGJOB__CHROMA__URL", url)
        given = load_settings(None, []).chroma.url
        assert given
        with Session(given, 2, 0, httpx.Headers()) as session:
            session.request("get", f"{given}/api/v2/heartbeat")
    assert sent == [f"Basic {base64.b64encode(b'me:secret').decode()}"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_in_trouble_is_asked_again(status: int) -> None:
    with server([status, status, 200], timeout_s=20) as (session, url):
        assert session.request("get", url).status_code == 200


def test_trouble_that_stays_ends_at_the_deadline_and_is_told_in_one_line() -> None:
    with server([500]) as (session, url), pytest.raises(ServerFailedError) as failure:
        session.request("get", url)

    message = str(failure.value)
    assert message.startswith("chroma.url: http://127.0.0.1:")
    assert "failed GET heartbeat" in message
    assert "answered 500" in message
    assert "secret" not in message
    assert "\n" not in message


def test_trouble_of_a_gateway_is_not_the_servers() -> None:
    with server([503]) as (session, url), pytest.raises(DependencyError, match="answered 503") as failure:
        session.request("get", url)

    assert not isinstance(failure.value, ServerFailedError)


@pytest.mark.parametrize(("status", "kind"), [(404, NotThereError), (400, DependencyError), (413, DependencyError)])
def test_a_refusal_is_not_asked_again(status: int, kind: type[DependencyError]) -> None:
    with server([status, 200]) as (session, url), pytest.raises(kind, match=f"1 attempts.*answered {status}"):
        session.request("get", url)


def test_a_server_of_another_kind_is_refused() -> None:
    with server([200], "text/html") as (session, url), pytest.raises(DependencyError, match="answered 200"):
        session.request("get", url)


PROXIES = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
SOCKS = "socks5://127.0.0.1:9"


@pytest.mark.parametrize("variable", PROXIES)
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", SOCKS])
def test_a_proxy_in_the_environment_is_passed_by_on_loopback(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with server([200]) as (_, url):
        assert connect(Target(url, 2), rows=0).get_version() == {}


@pytest.mark.parametrize("variable", PROXIES)
@pytest.mark.parametrize(
    ("proxy", "remedy"), [(SOCKS, "socksio isn't installed: install it"), ("ftp://me:secret@h", "correct it, or unset")]
)
def test_a_proxy_that_cant_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(DependencyError, match=f"^chroma.url: http://far.example.com: a variable .*{remedy}") as caught:
        connect(Target("http://far.example.com", 2), rows=0)
    assert "secret" not in str(caught.value)


def certificate_of_no_authority(folder: Path) -> Path:
    """A file with a certificate for 127.0.0.1 that is signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(secret + signed.public_bytes(Encoding.PEM))
    return file


def test_a_server_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate_of_no_authority(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as http:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
        Thread(target=http.serve_forever, args=(0.01,)).start()
        url = f"https://127.0.0.1:{http.server_port}"
        with Session(url, 2, 0, httpx.Headers()) as session, pytest.raises(DependencyError, match="CERTIFICATE"):
            session.request("get", url)
        http.shutdown()


def test_a_server_that_is_busy_but_alive_is_waited_for() -> None:
    with busy(4, patience_s=20) as (session, url):
        assert session.request("post", url).status_code == 200


@pytest.mark.parametrize(("patience_s", "heart"), [(0, 200), (1, 200), (60, 500)])
def test_patience_has_an_end_and_needs_a_heartbeat(patience_s: float, heart: int) -> None:
    start = time.monotonic()
    with busy(60, patience_s, heart) as (session, url), pytest.raises(DependencyError, match="timed out"):
        session.request("post", url)

    assert time.monotonic() - start < 4.5


def test_a_server_that_dies_of_a_request_twice_is_asked_again() -> None:
    with dying(2) as (session, url):
        assert session.request("post", url).status_code == 200


def test_a_request_that_a_server_dies_of_three_times_is_given_up() -> None:
    with dying(3) as (session, url), pytest.raises(ServerFailedError, match="the server died each time"):
        session.request("post", url)


@contextmanager
def cut_off() -> Iterator[str]:
    """The url of a way to a server that is away: it takes connections, and ends them."""

    def cut() -> None:
        with suppress(OSError):
            while True:
                listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=cut).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_way_that_is_cut_is_no_death_of_the_server() -> None:
    refused = pytest.raises(DependencyError, match="check that a Chroma server is running there")
    with cut_off() as url, Session(url, 2, 0, httpx.Headers()) as session, refused as failure:
        session.request("post", f"{url}/api/v2/collections/query")

    assert not isinstance(failure.value, ServerFailedError)
