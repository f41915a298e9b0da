"""vLLM itself, on a tiny random-weight Qwen2: it gives what the transformers engine gives."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.chat import Chat, Generated
from ragjob.engines.transformers.generator import CausalLM
from tests.fakes import CORPUS, TINY_CONTEXT, tiny_qwen2

pytest.importorskip("vllm", reason="vLLM isn't installed: make venv-vllm", exc_type=ImportError)
from ragjob.engines.vllm.generator import VLLMEngine

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("vllm"),
    pytest.mark.filterwarnings("default"),  # of its many parts vLLM has warnings of its own
]

WORDS = " ".join(file.read_text() for file in sorted(CORPUS.glob("*.md"))).split()
LENGTHS = {"max_new_tokens": 24, "temperature": 0.0}
HOW = {"dtype": "float32", "threads": 2, "gpus": 0.5 * torch.cuda.is_available(), **LENGTHS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_qwen2(tmp_path_factory.mktemp("vllm")))


@pytest.fixture(scope="module")
def engine(model: str) -> VLLMEngine:
    return VLLMEngine(model, arguments={"kv_cache_memory_bytes": 1 << 28, "max_num_seqs": 16}, **HOW)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """40 prompts of 1 to 60 words."""
    prompts = [" ".join(WORDS[start : start + 1 + start * 7 % 60]) for start in range(0, 800, 20)]
    return [Request("Be brief.", prompt, "", []) for prompt in prompts]


def uncached(answers: list[Completion | Failure]) -> list[Completion | Failure]:
    """The answers without what the prefix cache had to do with them."""
    return [replace(answer, cached_tokens=0) if isinstance(answer, Completion) else answer for answer in answers]


def test_answers_are_those_of_the_transformers_engine(engine: VLLMEngine, model: str, requests: list[Request]) -> None:
    expected = CausalLM(model, batch_size=8, batch_tokens=8192, **HOW).generate(requests)
    assert uncached(engine.generate(requests)) == expected
    assert {answer.finish_reason for answer in expected if isinstance(answer, Completion)} <= {"stop", "length"}


def test_greedy_tokens_are_those_of_a_bare_llm(engine: VLLMEngine, model: str, requests: list[Request]) -> None:
    from vllm import SamplingParams

    prompts = Chat(model, 24).encode(requests)
    sampling = SamplingParams(temperature=0, max_tokens=24, stop_token_ids=engine.sampling.stop_token_ids)
    bare = engine.llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
    assert [generated.tokens for generated in engine.run(prompts)] == [
        list(output.outputs[0].token_ids) for output in bare
    ]


def test_blocks_from_several_threads_are_answered_each_in_its_order(
    engine: VLLMEngine, requests: list[Request]
) -> None:
    expected = uncached(engine.generate(requests))
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(engine.generate, [requests[start : start + 10] for start in range(0, 40, 10)]))
    assert [answer for block in blocks for answer in uncached(block)] == expected


def test_a_prompt_too_long_for_the_model_fails_alone(engine: VLLMEngine, requests: list[Request]) -> None:
    first, refused, last = engine.generate([requests[0], Request("", "tram " * 700, "", []), requests[1]])
    assert isinstance(refused, Failure)
    assert f"more than the {TINY_CONTEXT - 24} that leave room for 24 new ones" in refused.error
    assert uncached([first, last]) == uncached(engine.generate(requests[:2]))


def test_of_prompts_that_begin_alike_the_beginning_is_computed_once(engine: VLLMEngine) -> None:
    engine.llm.reset_prefix_cache()
    shared = [" ".join(WORDS[start : start + 100]) for start in (0, 300)]
    mixed = [Request("", f"{shared[number % 2]} Question {number}", "", []) for number in range(8)]
    answers = engine.generate(mixed)
    assert sum(answer.cached_tokens > 0 for answer in answers if isinstance(answer, Completion)) == 6


def test_no_requests_get_no_answers(engine: VLLMEngine) -> None:
    assert engine.generate([]) == []


def test_a_prompt_that_vllm_refuses_fails_alone(engine: VLLMEngine) -> None:
    first, refused, last = engine.run([[5, 6], [10**9], [7]])
    assert isinstance(refused, Failure)
    assert refused.error.startswith("vLLM refused the prompt: ")
    assert [type(first), type(last)] == [Generated, Generated]
