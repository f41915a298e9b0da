"""HTTP to a Chroma server with a deadline, for Chroma's own client, which by itself waits for ever."""

from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from job.errors import DependencyError


class NotThereError(DependencyError):
    """The server answered 404."""


class ServerFailedError(DependencyError):
    """The server answered, with an error of its own (5xx) each time."""


class Session(httpx.Client):
    """Sends requests, each ended after `timeout_s`, retries included.

    `request` raises only `DependencyError`, on one line and without the url's password.
    """

    def __init__(self, url: str, timeout_s: float, headers: httpx.Headers) -> None:
        # A proxy named in the environment can't reach this machine's loopback.
        direct = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
        super().__init__(headers=headers, trust_env=not direct)
        self._url = url
        self._timeout_s = timeout_s

    def request(self, method: str, url: httpx.URL | str, **fields: Any) -> httpx.Response:
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_before_delay(self._timeout_s),
            wait=wait_random_exponential(multiplier=0.1, max=3),
            reraise=True,
        )
        deadline = monotonic() + self._timeout_s
        try:
            return retrying(self._attempt, deadline, method, url, **fields)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            asked = f"{method.upper()} {str(url).rsplit('/', 1)[-1]}"
            raise self._failure(asked, retrying.statistics["attempt_number"], error) from error

    def _attempt(self, deadline: float, method: str, url: httpx.URL | str, **fields: Any) -> httpx.Response:
        # Half of the time, so that a connection which died silently leaves time for a second one.
        limit_s = max(0.01, min(deadline - monotonic(), self._timeout_s / 2))
        response = super().request(method, url, timeout=limit_s, **fields)
        if not response.is_success or "json" not in response.headers.get("content-type", ""):
            reason = f"answered {response.status_code} {response.text[:200]}"
            raise httpx.HTTPStatusError(reason, request=response.request, response=response)
        return response

    def _failure(self, asked: str, attempts: int, error: Exception) -> DependencyError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return _kind(error)(
            f"chroma.url: {shown(self._url)} failed {asked} ({attempts} attempts, at last: {reason}): "
            f"see that a Chroma server runs there, or raise chroma.timeout_s ({self._timeout_s:g})"
        )


def shown(url: str) -> str:
    """`url` without user and password.

    >>> shown("http://me:secret@chroma:8000/api")
    'http://chroma:8000/api'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, httpx.TransportError)


def _kind(error: Exception) -> type[DependencyError]:
    if not isinstance(error, httpx.HTTPStatusError):
        return DependencyError
    if error.response.status_code == 404:
        return NotThereError
    return ServerFailedError if error.response.status_code >= 500 else DependencyError
