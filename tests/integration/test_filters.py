"""Whole jobs with a filter."""

import json

import pytest

from tests.integration.conftest import Job

pytestmark = [pytest.mark.ray, pytest.mark.services, pytest.mark.soak]


def test_each_prompt_is_answered_from_its_own_tenants_passages_alone(job: Job) -> None:
    texts = [f"Line {number} runs from the depot at Harrow Lane to stop {number}." for number in range(60)]
    rows = [{"text": text, "tenant": number % 3} for number, text in enumerate(texts)]
    footers = [{"text": "All lines are closed on the first of May.", "tenant": tenant} for tenant in range(3)]
    (job.folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows + footers)))
    tenants = [*[str(number % 3) for number in range(20)], None]
    prompts = [{"prompt": "When are all lines closed?", "tenant": tenant} for tenant in tenants]
    (job.folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))

    corpus = {"corpus__uri": "corpus.jsonl", "corpus__metadata_columns": '["tenant"]'}
    ended = job("run", **corpus, commit_rows=32, retrieve__where='{"tenant": "{tenant}"}')

    assert ended.code == 0, ended.err
    answers = job.answers()
    metadata = [[json.loads(text) for text in texts or []] for texts in answers["retrieved_metadata"].to_pylist()]
    assert metadata == [[{"tenant": int(tenant)}] * 3 if tenant else [] for tenant in tenants]
    assert [equals[0] for equals in answers["retrieved_equals"].to_pylist()[:20]] == [1] * 20
    assert answers["error"].to_pylist()[20].startswith("tenant is null, but retrieve.where takes a value from it")


def test_metadata_that_no_file_turns_out_to_have_ends_the_job_before_it_answers(job: Job) -> None:
    ended = job("run", retrieve__where='{"author": "Ada"}')
    assert ended.code == 4
    assert "retrieve.where: no metadata 'author' in index version" in ended.err
    assert "path, size" in ended.err
    assert not list((job.folder / "out").rglob("part-*"))
