"""Generate answers with vLLM, which batches by itself: requests join its batch as others leave it."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import gettempdir
from threading import Thread
from typing import Any

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.chat import Chat, Generated, Tokens
from ragjob.engines.vllm.arguments import engine_arguments
from ragjob.errors import EngineDied, SettingsError
from ragjob.models.device import GENERATOR, choose_dtype

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    # In this very process, so that it never outlives its actor, and keep a GPU's memory from the next one.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # For top_k and top_p, which aren't asked for; it would be compiled at the start, by an nvcc that the image lacks.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}


class VLLMEngine:
    """The model in the folder `path`, on the share `gpus` of a GPU, on several whole ones, or on `threads` threads.

    `arguments` are further ones of vLLM. Safe to be used by several threads: all their requests are one batch, and
    those that begin alike follow one another, so that vLLM computes their beginning once.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str,
        max_new_tokens: int,
        temperature: float,
        threads: int,
        gpus: float,
        arguments: Mapping[str, object],
    ) -> None:
        os.environ.update(ENVIRONMENT)
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        precision = dtype if gpus else choose_dtype(dtype, gpus, GENERATOR)
        given = engine_arguments(precision, gpus, arguments)
        self._pump = _Pump(lambda: _start(path, given, threads, gpus))
        self.llm = self._pump.llm
        self._chat = Chat(path, max_new_tokens, self.llm.llm_engine.model_config.max_model_len)
        self.sampling = SamplingParams(
            temperature=temperature,
            max_tokens=max_new_tokens,
            stop_token_ids=self._chat.end_tokens,
            ignore_eos=True,  # of the tokenizer; those that the model ends with are given
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given; one that vLLM won't take fails alone.

        Raises `EngineDied` if the engine is gone.
        """
        return self._chat.answer(requests, self.run)

    def run(self, prompts: list[Tokens]) -> list[Generated | Failure]:
        """Continue every prompt, in the order given."""
        order = sorted(range(len(prompts)), key=prompts.__getitem__)
        pending = {row: self._pump.submit(prompts[row], self.sampling) for row in order}
        return [pending[row].result() for row in range(len(prompts))]


class _Pump:
    """Holds the `llm` that `start` returns. Its own thread alone runs it, while there are requests."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._queue: SimpleQueue[tuple[Tokens, Any, Future[Generated | Failure]]] = SimpleQueue()
        self._running: dict[str, Future[Generated | Failure]] = {}
        self._death: EngineDied | None = None
        started: Future[Any] = Future()
        Thread(target=self._work, args=(start, started), name="vllm", daemon=True).start()
        self.llm = started.result()

    def submit(self, prompt: Tokens, sampling: Any) -> "Future[Generated | Failure]":
        """Have `prompt` continued."""
        future: Future[Generated | Failure] = Future()
        self._queue.put((prompt, sampling, future))
        if self._death:  # perhaps too late for the thread to find the request
            raise self._death
        return future

    def _work(self, start: Callable[[], Any], started: "Future[Any]") -> None:
        try:
            llm = start()
        except BaseException as error:  # noqa: BLE001 - raised again where the engine is made
            started.set_exception(error)
            return
        started.set_result(llm)
        try:
            self._serve(llm.llm_engine)
        except BaseException as error:  # noqa: BLE001 - whatever it is, what the GPU holds can't be trusted any more
            self._death = EngineDied(
                f"vLLM died of {_line(error)}; see the job's log, or reduce what generate.vllm requests"
            )
            self._give_up(self._death)

    def _serve(self, engine: Any) -> None:
        number = 0
        while True:
            while not self._running or not self._queue.empty():
                self._admit(engine, str(number), *self._queue.get())
                number += 1
            for output in engine.step():
                self._running.pop(output.request_id).set_result(_generated(output))

    def _admit(
        self, engine: Any, name: str, prompt: Tokens, sampling: Any, future: "Future[Generated | Failure]"
    ) -> None:
        from vllm.exceptions import VLLMClientError

        self._running[name] = future
        try:
            # The engine takes prompts as its renderer writes them.
            (given,) = engine.renderer.render_cmpl([{"prompt_token_ids": prompt}])
            engine.add_request(name, given, sampling)
        except (VLLMClientError, ValueError) as error:  # of this prompt; the engine is well
            self._running.pop(name).set_result(Failure(f"vLLM refused the prompt: {_line(error)}"))

    def _give_up(self, error: EngineDied) -> None:
        for future in self._running.values():
            future.set_exception(error)
        while not self._queue.empty():
            self._queue.get()[2].set_exception(error)


def _start(path: str, given: dict[str, object], threads: int, gpus: float) -> Any:
    """The LLM, on the thread that will run it. Errors that may pass, since others use the GPU, raise `EngineDied`."""
    import torch
    from pydantic import ValidationError
    from vllm import LLM

    torch.set_num_threads(threads)  # OpenMP's count is that of the thread which sets it
    try:
        with _alone_on_its_gpu(gpus):
            return LLM(path, **given)
    except ValidationError as error:
        raise SettingsError(f"generate.vllm: vLLM refuses its arguments: {_line(error)}") from error
    except Exception as error:
        if not gpus:
            raise
        raise EngineDied(f"vLLM didn't start: {_line(error)}; see generate.vllm and generate.pool.num_gpus") from error


@contextmanager
def _alone_on_its_gpu(gpus: float) -> Iterator[None]:
    """Start after others that start on the same GPU: while it starts, vLLM takes what they allocate for its own."""
    if not 0 < gpus < 1:
        yield
        return
    name = f"ragjob-vllm-{os.getuid()}-{os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
    with (Path(gettempdir()) / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _generated(output: Any) -> Generated | Failure:
    (answer,) = output.outputs
    if answer.finish_reason not in ("stop", "length"):
        return Failure(f"vLLM ended the answer: {answer.finish_reason}")
    return Generated(list(answer.token_ids), output.num_cached_tokens or 0)
