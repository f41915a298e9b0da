"""Whole runs whose embedder and generator share one GPU; where there is none, Ray only counts one."""

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.fakes import tiny_qwen2
from tests.integration.conftest import Job

pytestmark = [pytest.mark.ray, pytest.mark.services, pytest.mark.timeout(600)]

VLLM_FOR_CUDA = [
    pytest.mark.vllm,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM isn't installed: pip install 'ragjob[vllm]'"),
]


@pytest.mark.usefixtures("joined_ray")
@pytest.mark.parametrize(
    "engine",
    [pytest.param("transformers", marks=pytest.mark.soak), pytest.param("vllm", marks=VLLM_FOR_CUDA)],
)
def test_48_prompts_are_answered_on_shares_of_a_gpu_from_the_passages_that_a_processor_finds(
    job: Job, undisturbed: pa.Table, engine: str, tmp_path: Path
) -> None:
    model = {"generate__model": tiny_qwen2(tmp_path / "model"), "generate__max_new_tokens": 8}
    shares = {"cluster__gpus": 1, "embed__pool__num_gpus": 0.25, "generate__pool__num_gpus": 0.5}
    ended = job("run", generate__engine=engine, embed__dtype="auto", augment__max_context_tokens=300, **model, **shares)
    assert (ended.code, ended.err) == (0, "")
    answers = job.answers()
    assert (answers.num_rows, answers["error"].null_count) == (48, 48)
    assert answers["number"].to_pylist() == list(range(48))
    assert set(answers["finish_reason"].to_pylist()) <= {"length", "stop"}
    assert {name.partition("@")[0] for name in answers["generate_model"].to_pylist()} == {str(tmp_path / "model")}
    retrieved_ids, expected = (table["retrieved_ids"].to_pylist() for table in (answers, undisturbed))
    assert sum(ours[0] == theirs[0] for ours, theirs in zip(retrieved_ids, expected, strict=True)) >= 46
