"""Models on a CUDA GPU: they answer as on a processor, and keep to their share of its memory."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ragjob.engines.base import Completion, Failure, Request
from ragjob.models.embedder import Vectors
from tests.engines.transformers.test_generator import open_model
from tests.fakes import CORPUS
from tests.models.test_embedder import neighbours, open_embedder

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
    pytest.mark.filterwarnings("default"),  # those of CUDA's libraries
]

WORDS = " ".join(file.read_text() for file in sorted(CORPUS.glob("*.md"))).split()


@contextmanager
def little_memory(free: int) -> Iterator[None]:
    """Let this process take `free` bytes of the GPU beside what it has."""
    torch.cuda.empty_cache()
    most = torch.cuda.memory_reserved() + free
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.mem_get_info()[1])
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def times_out_of_memory() -> int:
    return int(torch.cuda.memory_stats()["num_ooms"])


def prompts(count: int, words: int) -> list[Request]:
    return [Request("", " ".join(WORDS[start : start + words]), "", []) for start in range(count)]


def test_vectors_in_float32_are_those_of_a_processor(vectors: Vectors, minilm: str, paragraphs: list[str]) -> None:
    embeddings = open_embedder(minilm, gpus=0.5).embed_documents(paragraphs)
    np.testing.assert_allclose(embeddings, vectors, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_finds_the_ten_neighbours_that_float32_finds(
    dtype: str, vectors: Vectors, minilm: str, paragraphs: list[str]
) -> None:
    exact = neighbours(vectors, 10)
    rounded = neighbours(open_embedder(minilm, dtype=dtype, gpus=0.5).embed_documents(paragraphs), 10)
    assert (exact * rounded).sum() / exact.sum() > 0.95


def test_threads_that_share_an_embedder_get_the_vectors_of_their_own_texts(
    vectors: Vectors, minilm: str, paragraphs: list[str]
) -> None:
    embedder = open_embedder(minilm, gpus=0.5)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(embedder.embed_documents, [paragraphs[at : at + 10] for at in range(0, 50, 10)]))
    np.testing.assert_allclose(np.concatenate(batches), vectors, atol=1e-5)


def test_an_embedder_whose_memory_runs_out_halves_its_batches(minilm: str) -> None:
    texts = [" ".join(WORDS[start : start + 300]) for start in range(4096)]
    embedder = open_embedder(minilm, gpus=1, batch_size=4096)
    before = times_out_of_memory()
    with little_memory(10**9):
        embeddings = embedder.embed_documents(texts)
    assert times_out_of_memory() > before
    expected = open_embedder(minilm, gpus=1, batch_size=64).embed_documents(texts)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_answers_of_a_causal_lm_are_those_of_a_processor(qwen2: Path) -> None:
    requests = prompts(200, 30)
    assert open_model(qwen2, gpus=0.5).generate(requests) == open_model(qwen2).generate(requests)


def test_a_causal_lm_whose_memory_runs_out_halves_its_batches(qwen2: Path) -> None:
    requests = prompts(2048, 100)
    model = open_model(qwen2, batch_size=2048, batch_tokens=10**9, max_new_tokens=4, gpus=1)
    expected = model.generate(requests)
    before = times_out_of_memory()
    with little_memory(200 * 10**6):
        completions = model.generate(requests)
    assert times_out_of_memory() > before
    assert completions == expected


@pytest.mark.vllm
@pytest.mark.skipif(not find_spec("vllm"), reason="vLLM isn't installed: pip install 'ragjob[vllm]'")
def test_two_vllm_engines_that_start_together_on_a_quarter_of_a_gpu_keep_to_it(qwen2: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(answer_on_a_quarter, [qwen2, qwen2])
    assert first == second
    answers, share = first
    assert answers == open_model(qwen2, max_new_tokens=8).generate(prompts(40, 30))
    assert share <= 0.25


def answer_on_a_quarter(model: Path) -> tuple[list[Completion | Failure], float]:
    """What vLLM answers on a quarter of a GPU, and how much of the GPU this process took, to a hundredth."""
    from ragjob.engines.vllm.generator import VLLMEngine

    options = {"dtype": "float32", "max_new_tokens": 8, "temperature": 0.0, "threads": 1, "gpus": 0.25}
    engine = VLLMEngine(str(model), arguments={"enforce_eager": True, "enable_prefix_caching": False}, **options)
    answers = engine.generate(prompts(40, 30))
    return answers, round(torch.cuda.max_memory_reserved() / torch.cuda.mem_get_info()[1], 2)
