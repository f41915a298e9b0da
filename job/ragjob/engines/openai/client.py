"""Generate answers with an API that is compatible with OpenAI's chat completions."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import closing, suppress
from time import monotonic
from typing import Any, TypeVar

from openai.types.chat import ChatCompletion
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.openai.answers import read_completion
from ragjob.engines.openai.endpoint import Endpoint, NoAnswerError, RefusedError
from ragjob.errors import DataError

BACKOFF_S = 8.0  # the longest pause before another attempt, beyond what the API asks for
SUSPICIOUS = 6  # failures of one prompt, a timeout counted as three, after which the API is asked another
PROBE = Request("", "Hello", "", [])

_Found = TypeVar("_Found")


class OpenAIClient:
    """The model `model` of the API at `base_url`, asked `concurrency` prompts at once by all threads together.

    `timeout_s` is how long the API may go without an answer to any of them. One attempt has half of it, so that
    a connection which died silently leaves time for a second: `timeout_s` should be twice what the longest answer
    takes. A `temperature` of 0 means the likeliest token every time.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str,
        api_key_env: str,
        concurrency: int,
        timeout_s: float,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self._api = Endpoint(model, base_url, api_key_env, concurrency, timeout_s, temperature)
        self._max_new_tokens = max_new_tokens
        self._slots = asyncio.Semaphore(concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given; one that the API refuses fails alone.

        Raises `DependencyError` or `DataError` for an API that answers none.
        """
        return self._run(self._generate(requests))

    def check(self) -> None:
        """Have one token generated. Raises as `generate` does, and `DataError` where the API refuses that."""
        try:
            self._run(self._ask(PROBE, 1))
        except RefusedError as error:
            raise DataError(f"generate.model: {error}; correct it, or name another model") from error

    def close(self) -> None:
        """Close all connections."""
        self._run(self._api.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, _Found]) -> _Found:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _generate(self, requests: list[Request]) -> list[Completion | Failure]:
        # Prompts that begin alike follow one another, for the API's prefix cache: first come, first served.
        order = sorted(range(len(requests)), key=lambda row: (requests[row].system, requests[row].user))
        tasks = {row: asyncio.create_task(self._answer(requests[row])) for row in order}
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
        return [tasks[row].result() for row in range(len(requests))]

    async def _answer(self, request: Request) -> Completion | Failure:
        try:
            return read_completion(await self._ask(request, self._max_new_tokens))
        except RefusedError as error:
            return Failure(str(error))

    async def _ask(self, request: Request, max_tokens: int) -> ChatCompletion:
        async with self._slots:
            return await _Call(self._api, request, max_tokens).run()


def check_api(*, model: str, base_url: str, api_key_env: str, timeout_s: float) -> str:
    """Have one token generated, to check address, key and model. Returns the API in a few words.

    Raises `DependencyError` for an API that doesn't answer or refuses the key, `DataError` for a model that it
    doesn't have or can't chat with.
    """
    client = OpenAIClient(
        model=model,
        base_url=base_url,
        api_key_env=api_key_env,
        concurrency=1,
        timeout_s=timeout_s,
        max_new_tokens=1,
        temperature=0,
    )
    with closing(client):
        client.check()
    return f"{base_url}, model {model} answers"


class _Call:
    """One prompt, asked again until the API answers it, refuses it, or goes silent for too long."""

    def __init__(self, api: Endpoint, request: Request, max_tokens: int) -> None:
        self._api = api
        self._request = request
        self._max_tokens = max_tokens
        self._began = monotonic()
        self._suspicion = 0
        self._backoff = wait_random_exponential(multiplier=0.25, max=min(BACKOFF_S, api.timeout_s / 4))

    async def run(self) -> ChatCompletion:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(NoAnswerError), stop=self._is_over, wait=self._pause_s, reraise=True
        )
        try:
            return await retrying(self._attempt)
        except NoAnswerError as error:
            raise self._api.give_up(retrying.statistics["attempt_number"], error) from error

    async def _attempt(self) -> ChatCompletion:
        try:
            timeout_s = self._api.timeout_s
            limit_s = min(max(self._left_s(), timeout_s / 10), timeout_s / 2)
            return await self._api.attempt(self._request, self._max_tokens, limit_s)
        except NoAnswerError as error:
            self._suspicion += error.weight
            if self._suspicion >= SUSPICIOUS:
                await self._suspect(error)
            raise

    async def _suspect(self, error: NoAnswerError) -> None:
        """Refuse the prompt if the API answers another, else it is the API that fails."""
        self._suspicion = 0
        with suppress(NoAnswerError):
            await self._api.attempt(PROBE, 1, self._api.timeout_s / 4)
            raise RefusedError(f"the API answers other prompts but not this one; its last response: {error}") from error

    def _left_s(self) -> float:
        return max(self._began, self._api.answered) + self._api.timeout_s - monotonic()

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.wait_s if isinstance(error, NoAnswerError) else 0
        return min(asked_s, self._api.timeout_s / 2) + self._backoff(state)

    def _is_over(self, state: RetryCallState) -> bool:
        return self._left_s() <= state.upcoming_sleep
