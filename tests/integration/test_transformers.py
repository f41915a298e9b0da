"""The `transformers` engine in a whole run, with a tiny random-weight Qwen2 in place of a real one."""

import pytest

from tests.fakes import tiny_qwen2
from tests.integration.conftest import Job, make_job
from tests.integration.test_bad_inputs import SETTINGS, assert_refused


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.services
def test_a_causal_lm_answers_200_prompts(tmp_path_factory: pytest.TempPathFactory, index: object) -> None:
    folder = tmp_path_factory.mktemp("transformers")
    model = tiny_qwen2(folder / "model")
    job: Job = make_job(folder, prompts=200)
    settings = {"generate__engine": "transformers", "generate__model": model, "generate__max_new_tokens": 8}
    ended = job("answer", index__uri=index, commit_rows=50, augment__max_context_tokens=300, **settings)
    answers = job.answers()
    assert (ended.code, ended.err) == (0, "")
    assert (answers.num_rows, answers["error"].null_count) == (200, 200)
    assert answers["number"].to_pylist() == list(range(200))
    assert set(answers["finish_reason"].to_pylist()) <= {"length", "stop"}
    assert {name.partition("@")[0] for name in answers["generate_model"].to_pylist()} == {str(model)}


def test_a_context_that_the_model_cannot_hold_is_refused_before_the_start(job: Job, index: object) -> None:
    settings = {"generate__engine": "transformers", "generate__model": tiny_qwen2(job.folder / "model")}
    assert_refused(job, "answer", SETTINGS, "augment.max_context_tokens", "512", index__uri=index, **settings)
