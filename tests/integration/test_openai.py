"""The `openai` engine, alone and in whole runs, with vLLM's own server on a tiny random-weight Qwen2."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.openai.client import OpenAIClient, check_api
from ragjob.engines.transformers.generator import CausalLM
from ragjob.errors import DataError
from tests.fakes import CORPUS, tiny_qwen2
from tests.faults import Fault, proxy, refuse
from tests.forks import Ended
from tests.integration.conftest import Job, make_job, wait_until
from tests.services import VLLMServer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.soak,  # its server takes minutes to start; tests/engines/openai has an API of its own
    pytest.mark.xdist_group("jobs"),  # one server for all
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM isn't installed: make venv-vllm"),
]

NEW = 8
API = {"model": "tiny", "api_key_env": "A_KEY_OF_OURS", "timeout_s": 120}
SETTINGS = {
    "generate__engine": "openai",
    "generate__model": "tiny",
    "generate__max_new_tokens": NEW,
    "generate__openai__timeout_s": 300,
    "augment__max_context_tokens": 100,  # of the embedding model's; the tiny one's tokens are shorter
    "commit_rows": 50,
}
WORDS = " ".join(file.read_text() for file in sorted(CORPUS.glob("*.md"))).split()
PREFIX = " ".join(WORDS[:100])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen2(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    running = VLLMServer(model, tmp_path_factory.mktemp("vllm") / "log")
    yield running
    running.stop()


@pytest.fixture
def engine(server: VLLMServer) -> Iterator[OpenAIClient]:
    client = OpenAIClient(base_url=f"{server.url}/v1", concurrency=16, max_new_tokens=NEW, temperature=0, **API)
    with closing(client):
        yield client


def request(user: str, system: str = "Be brief.") -> Request:
    return Request(system, user, "", [])


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """40 prompts of 1 to 60 words, some with no system message."""
    prompts = [" ".join(WORDS[start : start + 1 + start * 7 % 60]) for start in range(0, 800, 20)]
    return [request(prompt, "Be brief." if number % 3 else "") for number, prompt in enumerate(prompts)]


def said(answer: Completion | Failure) -> tuple[str, str | None, int | None]:
    """What an answer has in both: the server counts the token that ends it, too, and drops half a letter at its end.

    Of an answer without text, which an API's client takes for an error, nothing.
    """
    text = answer.text.rstrip("\N{REPLACEMENT CHARACTER}") if isinstance(answer, Completion) else ""
    return (text, answer.finish_reason, answer.prompt_tokens) if text else ("", None, None)


def test_answers_are_those_of_the_transformers_engine(
    engine: OpenAIClient, model: Path, requests: list[Request]
) -> None:
    batches = {"batch_size": 8, "batch_tokens": 8192}
    options = {"dtype": "float32", "threads": 2, "gpus": 0, "max_new_tokens": NEW, "temperature": 0, **batches}
    expected = CausalLM(str(model), **options).generate(requests)
    answers = list(map(said, engine.generate(requests)))
    assert answers == list(map(said, expected))
    assert len([text for text, _, _ in answers if text]) > len(requests) / 2


def test_a_prompt_that_the_model_cannot_hold_fails_alone(engine: OpenAIClient) -> None:
    long = request("<|im_start|>" * 600)
    first, refused, last = engine.generate([request("a"), long, request("b")])
    assert isinstance(refused, Failure)
    assert refused.error.startswith("the API answered 400 ")
    assert "512" in refused.error
    assert [type(first), type(last)] == [Completion, Completion]


def test_tokens_of_a_prefix_that_the_server_knows_are_counted(engine: OpenAIClient) -> None:
    engine.generate([request(f"{PREFIX} What is it?")])
    (answer,) = engine.generate([request(f"{PREFIX} Who is it?")])
    assert isinstance(answer, Completion)
    assert 100 < answer.cached_tokens < answer.prompt_tokens


def test_a_check_knows_the_model_and_misses_another(server: VLLMServer) -> None:
    url = f"{server.url}/v1"
    assert check_api(base_url=url, **API) == f"{url}, model tiny answers"
    with pytest.raises(DataError, match=r"^generate.model: .* answered 404 .*'huge'"):
        check_api(base_url=url, **(API | {"model": "huge"}))
    with pytest.raises(DataError, match=r"^generate.model: .* answered 404 .*generate.openai.base_url is right"):
        check_api(base_url=server.url, **API)


@pytest.fixture
def job_of_500(tmp_path: Path) -> Job:
    return make_job(tmp_path, prompts=500)


def assert_complete(ended: Ended, job: Job, rows: int = 500) -> None:
    answers = job.answers()
    assert (ended.code, ended.err) == (0, "")
    assert (answers.num_rows, answers["error"].null_count) == (rows, rows)
    assert answers["number"].to_pylist() == list(range(rows))
    assert set(Counter(answers["prompt_id"].to_pylist()).values()) == {1}
    assert set(answers["finish_reason"].to_pylist()) <= {"length", "stop"}


@pytest.mark.ray
@pytest.mark.services
@pytest.mark.usefixtures("joined_ray")
def test_48_prompts_are_answered_once(job: Job, server: VLLMServer) -> None:
    ended = job("run", generate__openai__base_url=f"{server.url}/v1", retrieve__sentences=False, **SETTINGS)
    assert_complete(ended, job, 48)


@pytest.mark.ray
@pytest.mark.services
def test_500_prompts_are_answered_once_with_a_quarter_of_the_requests_refused(
    job_of_500: Job, index: Path, server: VLLMServer
) -> None:
    busy, away = Fault(refuse(429, "SlowDown"), every=8), Fault(refuse(503, "Unavailable"), every=8)
    away.met = 4
    with proxy(server.url, busy, away) as harmed:
        ended = job_of_500("answer", index__uri=index, generate__openai__base_url=f"{harmed.url}/v1", **SETTINGS)
    assert_complete(ended, job_of_500)
    assert min(busy.done, away.done) > 60


@pytest.mark.ray
@pytest.mark.services
def test_500_prompts_are_answered_once_though_the_server_is_killed_in_mid_run(
    job_of_500: Job, index: Path, server: VLLMServer
) -> None:
    more = {"index__uri": index, "generate__openai__base_url": f"{server.url}/v1"} | SETTINGS
    process = job_of_500.start("answer", **more)
    wait_until(lambda: job_of_500.staged)
    server.kill()
    server.start()
    assert_complete(job_of_500.end(process, timeout_s=400), job_of_500)
