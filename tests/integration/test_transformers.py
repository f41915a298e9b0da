"""The `transformers` engine in a whole run, with a tiny random-weight Qwen2 in place of a real one."""

import pytest

from tests.fakes import tiny_qwen2
from tests.integration.conftest import Job, make_job

pytestmark = [pytest.mark.ray, pytest.mark.services]


def test_a_causal_lm_answers_200_prompts(tmp_path_factory: pytest.TempPathFactory, index: object) -> None:
    folder = tmp_path_factory.mktemp("transformers")
    model = tiny_qwen2(folder / "model")
    job: Job = make_job(folder, prompts=200)
    settings = {"generate__engine": "transformers", "generate__model": model, "generate__max_new_tokens": 8}
    ended = job("answer", index__uri=index, commit_rows=50, **settings)
    answers = job.answers()
    assert (ended.code, ended.err) == (0, "")
    assert (answers.num_rows, answers["error"].null_count) == (200, 200)
    assert answers["number"].to_pylist() == list(range(200))
    assert set(answers["finish_reason"].to_pylist()) <= {"length", "stop"}
    assert {name.partition("@")[0] for name in answers["generate_model"].to_pylist()} == {str(model)}
