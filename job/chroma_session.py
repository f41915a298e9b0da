"""HTTP to a Chroma server with a deadline, for Chroma's own client, which by itself waits for ever."""

from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from job.errors import DependencyError

DEATHS = 3  # by one request, after which it is taken for their cause


class NotThereError(DependencyError):
    """The server answered 404."""


class ServerFailedError(DependencyError):
    """The server answered, with an error of its own (5xx) each time, or died of the request again and again."""


class Session(httpx.Client):
    """Sends requests, each ended when the server gave no sign of life for `timeout_s`, retries included.

    A server that doesn't answer a request but its heartbeat is busy: it gets up to `patience_s` more. `request`
    raises only `DependencyError`, on one line and without the url's password.
    """

    def __init__(self, url: str, timeout_s: float, patience_s: float, headers: httpx.Headers) -> None:
        # A proxy named in the environment can't reach this machine's loopback.
        direct = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
        super().__init__(headers=headers, trust_env=not direct)
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
        try:
            # Half of the time, so that a connection which died silently leaves time for a second one.
            response = super().request(method, url, timeout=call.at_most(self._timeout_s / 2), **fields)
        except httpx.ReadTimeout:
            self._listen(call, url)
            raise
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            call.deaths += 1
            raise
        if not response.is_success or "json" not in response.headers.get("content-type", ""):
            reason = f"answered {response.status_code} {response.text[:200]}"
            raise httpx.HTTPStatusError(reason, request=response.request, response=response)
        return response

    def _listen(self, call: "_Call", url: str) -> None:
        """Extend the deadline if the server's heart beats."""
        heartbeat = url.partition("/api/v2/")[0] + "/api/v2/heartbeat"
        with suppress(httpx.HTTPError):
            super().request("GET", heartbeat, timeout=call.at_most(self._timeout_s / 4)).raise_for_status()
            call.extend()

    def _remedy(self, call: "_Call") -> str:
        if call.deaths >= DEATHS:
            return "it died of that each time: see its log and its memory limit, or empty its data folder"
        return f"see that a Chroma server runs there, or raise chroma.timeout_s ({self._timeout_s:g})"


class _Call:
    """The deadline of one request, and how often the server died in its midst."""

    def __init__(self, timeout_s: float, patience_s: float) -> None:
        self._timeout_s = timeout_s
        self._last = monotonic() + timeout_s + patience_s
        self.deaths = 0
        self.extend()

    def extend(self) -> None:
        self._deadline = min(monotonic() + self._timeout_s, self._last)

    def at_most(self, limit_s: float) -> float:
        """`limit_s`, or what is left until the deadline."""
        return max(0.01, min(self._deadline - monotonic(), limit_s))

    def is_over(self, state: RetryCallState) -> bool:
        """Whether there is no sense, or no time, in another attempt."""
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
    return ServerFailedError if error.response.status_code >= 500 else DependencyError
