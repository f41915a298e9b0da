"""One request to an API that is compatible with OpenAI's chat completions, and what its failures mean."""

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import monotonic, time

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from ragjob.engines.base import Request
from ragjob.engines.controls import disarm
from ragjob.errors import DataError, DependencyError
from ragjob.settings import proxy_fault, reached_directly

NO_KEY = "none"  # the client insists on a key; a server of one's own needs none
BUSY = (408, 409, 429, 502, 503)
NOT_THERE = (301, 302, 303, 307, 308, 404, 405)
MESSAGE_CHARS = 300
# What begins the control tokens of many models' chat templates: an API doesn't tell which ones its server reads in
# a message. <|name|>, with wide bars too; <s>; [INST]; <start_of_turn>.
CONTROLS = re.compile(
    r"<(?=[|\uff5c][^\s<>|\uff5c]{1,64}[|\uff5c]>|/?s>|(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])"
)


class RefusedError(Exception):
    """The API answers, but not to this prompt."""


class NoAnswerError(Exception):
    """An attempt brought no answer; another one may, after `wait_s`.

    `weight` is how much the prompt itself is suspected: not at all if the API is busy or can't be reached.
    """

    def __init__(self, reason: str, weight: int = 1, wait_s: float = 0) -> None:
        super().__init__(reason)
        self.weight = weight
        self.wait_s = wait_s


class Endpoint:
    """One pool of connections to an API, and when it last answered."""

    def __init__(
        self, model: str, base_url: str, api_key_env: str, concurrency: int, timeout_s: float, temperature: float
    ) -> None:
        self.timeout_s = timeout_s
        self.answered = monotonic()
        self._accepted = False
        self._model = model
        self._url = base_url
        self._key_env = api_key_env
        self._concurrency = concurrency
        self._temperature = temperature
        self._key = _read_key(api_key_env)
        self._client = _open(base_url, self._key or NO_KEY, concurrency)

    async def close(self) -> None:
        await self._client.close()

    async def attempt(self, request: Request, max_tokens: int, limit_s: float) -> ChatCompletion:
        """Ask once. Raises `NoAnswerError`, `RefusedError` or what ends the job."""
        try:
            async with asyncio.timeout(limit_s):
                completion = await self._send(request, max_tokens)
        except TimeoutError as error:
            raise NoAnswerError(
                f"no answer within {limit_s:.3g} s, half of generate.openai.timeout_s", weight=3
            ) from error
        except APIStatusError as error:
            raise self._explain(error) from None  # a traceback would show what the API said of the key
        except APIConnectionError as error:
            cause = error.__cause__
            reason = self._line(str(cause) or type(cause).__name__)
            raise NoAnswerError(reason, weight=0 if isinstance(cause, httpx2.ConnectError) else 1) from error
        except ValueError as error:  # it says that it sends JSON, and doesn't
            raise NoAnswerError(self._line(f"answered with broken JSON: {error}")) from error
        choices = getattr(completion, "choices", None)
        if not (isinstance(choices, list) and choices):
            raise NoAnswerError(
                self._line(f"answered with no completion: {getattr(completion, 'model_extra', completion)}")
            )
        self.answered, self._accepted = monotonic(), True
        return completion

    async def _send(self, request: Request, max_tokens: int) -> ChatCompletion:
        user = request.user if CONTROLS.search(request.bare) else disarm(request.user, CONTROLS)
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": user}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        # Not max_completion_tokens: TGI knows only this name, and would answer at any length.
        return await self._client.chat.completions.create(
            model=self._model, messages=messages, max_tokens=max_tokens, temperature=self._temperature
        )

    def _explain(self, error: APIStatusError) -> Exception:
        status = error.status_code
        answered = self._line(f"answered {status} {_message(error.body)}")
        wait_s = _retry_after(error.response.headers)
        if status in BUSY:
            return NoAnswerError(answered, weight=0, wait_s=wait_s)
        if status >= 500:
            return NoAnswerError(answered, wait_s=wait_s)
        self.answered = monotonic()
        if status == 401:  # its text may show parts of the key
            return DependencyError(f"generate.openai.api_key_env: {self._url} answered 401, {self._key_remedy()}")
        if status == 403 and not self._accepted:  # else it is this prompt that isn't allowed
            return DependencyError(f"generate.openai.api_key_env: {self._url} {answered}; {self._key_remedy()}")
        if status in NOT_THERE:
            return DataError(
                f"generate.model: {self._url} {answered}; check that it serves a model {self._model!r}, and that "
                f"generate.openai.base_url is right (for most servers it ends in /v1)"
            )
        return RefusedError(f"the API {answered}")

    def _key_remedy(self) -> str:
        if self._key:
            return f"check that {self._key_env} holds a key that may use {self._model!r}"
        return f"and {self._key_env} isn't set where the job runs: put the API's key there"

    def give_up(self, attempts: int, error: Exception) -> DependencyError:
        """The error that ends the job once the API has gone without an answer for too long."""
        return DependencyError(
            f"generate.openai.base_url: {self._url} gave no answer for {self.timeout_s:g} s ({attempts} attempts at "
            f"this prompt; last error: {error}); check that the API is running, raise "
            f"generate.openai.timeout_s (an answer may take half of it), or lower "
            f"generate.openai.concurrency ({self._concurrency})"
        )

    def _line(self, text: str) -> str:
        """`text` on one line, without the key, in case the API sends it back."""
        return " ".join((text.replace(self._key, "***") if self._key else text).split())[:MESSAGE_CHARS]


def _open(url: str, key: str, concurrency: int) -> AsyncOpenAI:
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        # With a transport of its own, a client looks for no proxies.
        direct = httpx2.AsyncHTTPTransport(limits=limits) if reached_directly(url) else None
        http_client = httpx2.AsyncClient(limits=limits, timeout=None, transport=direct)
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise DependencyError(f"generate.openai.base_url: {url}: {proxy_fault(error)}") from error
    client = AsyncOpenAI(
        base_url=url,
        api_key=key,
        timeout=None,
        max_retries=0,
        default_headers={"Authorization": f"Bearer {key}"},  # else OPENAI_CUSTOM_HEADERS may name another
        http_client=http_client,
    )
    # Read from OPENAI_ORG_ID and OPENAI_PROJECT_ID, which may be meant for another API.
    client.organization = client.project = None
    return client


def _read_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise DependencyError(f"generate.openai.api_key_env: {variable} holds characters that no key has; set it again")
    return key or None


def _message(body: object) -> str:
    """The text in an error's body: servers name it `message` or `detail`, or send nothing else."""
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body
    return str(body or "")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the API asks to wait, in seconds or until a date (RFC 9110, 10.2.3); 0 if it doesn't."""
    asked = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(asked))
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time())
    return 0.0
