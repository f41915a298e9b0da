"""The `vllm` engine around a stand-in for vLLM: what it is given on GPUs, and what happens when it fails."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ragjob.engines.base import Completion, Failure, Generator, Request
from ragjob.errors import EngineDied
from ragjob.models.folder import find_folder
from tests.engines.shapes import engine_of, given

MOST_TOKENS = 30


class StandIn:
    """Takes what `vllm.LLM` takes, and answers each prompt with one token, or as `step` does."""

    given: list[dict[str, Any]]
    step: Callable[["StandIn"], list[Any]]

    def __init__(self, path: str, **given: Any) -> None:
        self.given.append(given)
        self.waiting: list[tuple[str, list[int]]] = []
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=64),
            renderer=SimpleNamespace(render_cmpl=lambda prompts: prompts),
            add_request=self.add,
            step=lambda: StandIn.step(self),
        )

    def add(self, name: str, prompt: dict[str, list[int]], sampling: object) -> None:
        if len(prompt["prompt_token_ids"]) > MOST_TOKENS:
            raise ClientError("not\nthis one")
        self.waiting.append((name, prompt["prompt_token_ids"]))


class ClientError(Exception):
    """As vLLM's own, no ValueError."""


def answer(llm: StandIn) -> list[Any]:
    (name, prompt), *llm.waiting = llm.waiting
    reason = "stop" if prompt else "abort"
    return [
        SimpleNamespace(
            request_id=name, num_cached_tokens=2, outputs=[SimpleNamespace(finish_reason=reason, token_ids=[7])]
        )
    ]


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("vllm", "vllm.exceptions", "vllm.sampling_params")
    whole, exceptions, parameters = (ModuleType(name) for name in names)
    vars(whole).update(LLM=StandIn, SamplingParams=lambda **arguments: arguments)
    vars(exceptions).update(VLLMClientError=ClientError)
    vars(parameters).update(RequestOutputKind=SimpleNamespace(FINAL_ONLY=2))
    for name, module in zip(names, (whole, exceptions, parameters), strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(StandIn, "given", [], raising=False)
    monkeypatch.setattr(StandIn, "step", answer, raising=False)


@pytest.fixture
def start(qwen2: Path) -> Callable[..., Generator]:
    """Make the engine as an actor of a pool with that many GPUs does."""

    def make(gpus: float) -> Generator:
        pool = {"num_gpus": gpus, "max": 2}
        settings = given(generate={"engine": "vllm", "dtype": "float32", "max_new_tokens": 8, "pool": pool})
        return engine_of(settings, find_folder(str(qwen2), "generate.model")).make("float32", threads=1)

    return make


def request(text: str) -> Request:
    return Request("", text, "", [])


def test_two_actors_of_a_quarter_of_a_gpu_give_vllm_less_than_that_each(start: Callable[..., Generator]) -> None:
    start(0.25)
    start(0.25)
    assert [given["gpu_memory_utilization"] < 0.25 for given in StandIn.given] == [True, True]
    assert [given["tensor_parallel_size"] for given in StandIn.given] == [1, 1]


def test_an_actor_of_two_gpus_spreads_the_model_over_both(start: Callable[..., Generator]) -> None:
    start(2)
    assert StandIn.given[0]["tensor_parallel_size"] == 2


def test_a_prompt_that_vllm_refuses_fails_alone(start: Callable[..., Generator]) -> None:
    engine = start(1)
    long = request("a passage that is quite a lot longer than the other prompts are")
    first, refused, last = engine.generate([request("a"), long, request("b")])
    assert refused == Failure("vLLM refused the prompt: ClientError: not this one")
    assert [type(first), type(last)] == [Completion, Completion]


def test_an_engine_that_dies_says_so_to_every_request_then_and_later(
    start: Callable[..., Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: StandIn) -> list[Any]:
        raise SystemExit("CUDA error:\n an illegal memory access")

    monkeypatch.setattr(StandIn, "step", fail)
    engine = start(1)
    for _ in range(2):
        with pytest.raises(EngineDied, match=r"^vLLM died of SystemExit: CUDA error: an illegal memory access; see"):
            engine.generate([request("a"), request("b")])


def test_an_engine_that_cannot_start_on_its_gpu_has_its_worker_started_anew(
    start: Callable[..., Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: StandIn, path: str, **given: Any) -> None:
        raise ValueError("Free memory on device is less than desired")

    monkeypatch.setattr(StandIn, "__init__", fail)
    with pytest.raises(
        EngineDied, match=r"^vLLM didn't start: ValueError: Free memory on device .*; see generate.vllm"
    ):
        start(0.5)
