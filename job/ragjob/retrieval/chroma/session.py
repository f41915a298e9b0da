"""HTTP to a Chroma server with a deadline, for Chroma's own client, which by itself waits for ever."""

from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from ragjob.errors import DependencyError
from ragjob.settings import proxy_fault, reached_directly

DEATHS = 3  # by one request, after which it is taken for their cause


class NotThereError(DependencyError):
    """The server answered 404."""


class ServerFailedError(DependencyError):
    """The server's last answer was an error of its own (500), or it died of the request each time."""


class Session(httpx.Client):
    """Sends requests, each ended when the server gave no sign of life for `timeout_s`, retries included.

    A server that answers its heartbeat but not a request is busy: it gets up to `patience_s` more. `request`
    raises only `DependencyError`, on one line and without the url's password.
    """

    def __init__(self, url: str, timeout_s: float, patience_s: float, headers: httpx.Headers) -> None:
        secure = urlsplit(url).scheme != "http"  # to read the certificates takes 50 ms, and http needs none
        try:
            # With a transport of its own, a client looks for no proxies.
            direct = httpx.HTTPTransport(verify=secure) if reached_directly(url) else None
            super().__init__(headers=headers, verify=secure, transport=direct)
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise DependencyError(f"chroma.url: {shown(url)}: {proxy_fault(error)}") from error
        self._url = url
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    def request(self, method: str, url: httpx.URL | str, **fields: Any) -> httpx.Response:
        call = _Call(self._timeout_s, self._patience_s)
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=call.is_over,
            wait=wait_random_exponential(multiplier=0.1, max=3),
            reraise=True,
        )
        try:
            return retrying(self._attempt, call, method, str(url), **fields)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            asked = f"{method.upper()} {str(url).rsplit('/', 1)[-1]}"
            attempts = f"{retrying.statistics['attempt_number']} attempts, at last: {_reason(error)}"
            message = f"chroma.url: {shown(self._url)} failed {asked} ({attempts}): {self._remedy(call)}"
            raise _kind(error, call)(message) from error

    def _attempt(self, call: "_Call", method: str, url: str, **fields: Any) -> httpx.Response:
        if call.lost:
            self._heartbeat(call, url)
        try:
            # Half of the time, so that a connection which died silently leaves time for a second one.
            return self._send(method, url, call.at_most(self._timeout_s / 2), **fields)
        except httpx.ReadTimeout:
            with suppress(httpx.HTTPError):
                self._heartbeat(call, url)
                call.extend()
            raise
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            call.die()
            raise

    def _heartbeat(self, call: "_Call", url: str) -> None:
        base = url.partition("/api/v2/")[0]
        self._send("GET", f"{base}/api/v2/heartbeat", call.at_most(self._timeout_s / 4))
        call.lost = False

    def _send(self, method: str, url: str, limit_s: float, **fields: Any) -> httpx.Response:
        response = super().request(method, url, timeout=limit_s, **fields)
        if not response.is_success or "json" not in response.headers.get("content-type", ""):
            reason = f"answered {response.status_code} {response.text[:200]}"
            raise httpx.HTTPStatusError(reason, request=response.request, response=response)
        return response

    def _remedy(self, call: "_Call") -> str:
        if call.deaths >= DEATHS:
            return "the server died each time: see its log and its memory limit, or empty its data folder"
        return f"check that a Chroma server is running there, or raise chroma.timeout_s ({self._timeout_s:g})"


class _Call:
    """The deadline of one request, and how often the server died of it."""

    def __init__(self, timeout_s: float, patience_s: float) -> None:
        self._timeout_s = timeout_s
        self._last = monotonic() + timeout_s + patience_s
        self.deaths = 0
        self.lost = False
        self.extend()

    def extend(self) -> None:
        """The server is busy, but alive."""
        self._deadline = min(monotonic() + self._timeout_s, self._last)

    def die(self) -> None:
        """The server went without an answer. It has to be back before this counts once more."""
        self.deaths += 1
        self.lost = True

    def at_most(self, limit_s: float) -> float:
        """`limit_s`, or what is left until the deadline."""
        return max(0.01, min(self._deadline - monotonic(), limit_s))

    def is_over(self, state: RetryCallState) -> bool:
        """Whether another attempt makes no sense, or has no time left."""
        return self.deaths >= DEATHS or self._deadline - monotonic() <= state.upcoming_sleep


def shown(url: str) -> str:
    """`url` without user and password.

    >>> shown("http://me:secret@chroma:8000/api")
    'http://chroma:8000/api'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, httpx.TransportError)


def _kind(error: Exception, call: _Call) -> type[DependencyError]:
    if call.deaths >= DEATHS:
        return ServerFailedError
    if not isinstance(error, httpx.HTTPStatusError):
        return DependencyError
    if error.response.status_code == 404:
        return NotThereError
    return ServerFailedError if error.response.status_code == 500 else DependencyError
