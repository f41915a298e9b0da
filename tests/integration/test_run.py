"""A whole run on one machine, from files to `answers.parquet`."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.cli.sample import EXPECTED
from ragjob.commands.tune import Setting, Tune
from ragjob.config import load_settings
from ragjob.ledger import schema
from tests.integration.conftest import BAD_ROWS, PROMPTS_OF_A_JOB, Job

pytestmark = [pytest.mark.ray, pytest.mark.services]

ROWS = PROMPTS_OF_A_JOB + len(BAD_ROWS)


def test_the_commands_for_your_own_data_answer_each_prompt_once_in_the_prompts_order(done: Job) -> None:
    assert done.answers()["number"].to_pylist() == [*range(PROMPTS_OF_A_JOB), *[None] * len(BAD_ROWS)]
    assert [error for error in done.answers()["error"].to_pylist() if error] == [
        "prompt is null",
        "prompt is blank",
        f"prompt has 5,000,000 characters, more than {schema.MAX_TEXT_CHARS:,}; shorten it",
        "line isn't UTF-8: byte 12 is wrong",
    ]


def test_the_index_is_loaded_where_a_server_lasts(done: Job) -> None:
    assert " load " in done.said[0]


def test_the_columns_are_those_of_the_design(done: Job) -> None:
    assert done.answers().schema.names == [
        *("prompt_id", "prompt", "number", "answer", "finish_reason", "prompt_tokens", "completion_tokens"),
        *("retrieved_ids", "retrieved_document_ids", "retrieved_uris", "retrieved_titles", "retrieved_pages"),
        *("retrieved_metadata", "retrieved_texts", "retrieved_scores", "retrieved_similarities", "retrieved_equals"),
        *("citations", "error"),
        *("embed_model", "generate_model", "index_version", "run_id"),
    ]


def test_at_least_27_of_the_30_expected_passages_are_retrieved(undisturbed: pa.Table) -> None:
    passages = [json.loads(line)["passage"] for line in EXPECTED.read_text("utf-8").splitlines()]
    retrieved = ["\n".join(texts) for texts in undisturbed["retrieved_texts"].to_pylist()]
    is_retrieved = [passage in text for passage, text in zip(passages[:30], retrieved[:30], strict=True)]
    assert sum(is_retrieved) >= 27


def test_the_answers_cite_passages_that_they_were_given(undisturbed: pa.Table) -> None:
    answers = undisturbed.filter(undisturbed["error"].is_null()).to_pylist()
    named = [sorted({int(number) for number in re.findall(r"\[(\d+)\]", row["answer"])}) for row in answers]
    assert [sorted(row["citations"]) for row in answers] == named
    assert all(row["citations"] and max(row["citations"]) <= len(row["retrieved_ids"]) for row in answers)


def test_retrieval_is_tuned_on_the_labels_of_a_run(done: Job, tmp_path: Path) -> None:
    expected = [json.loads(line) for line in EXPECTED.read_text("utf-8").splitlines()]
    asked = done.answers()["prompt"].to_pylist()
    labels = [
        {"prompt": prompt, "document_ids": [row["document"]]}
        for row, prompt in zip(expected, asked, strict=False)
        if row["document"]
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)), "utf-8")
    (run,) = (done.folder / "out").glob("*/answers.parquet")
    tune = Tune.of(load_settings(None, [f"index.uri={done.folder / 'index'}"]), str(run.parent), str(tmp_path))
    tuning = tune.execute()
    assert tuning.questions == len(labels) == 30
    assert tuning.current == Setting("hybrid", sentences=True, lexical_weight=0.2)
    ranked = [set(ids) for ids in done.answers()["retrieved_document_ids"].to_pylist()[:34]]
    is_retrieved = [row["document"] in ids for row, ids in zip(expected, ranked, strict=True) if row["document"]]
    assert tuning.current_metrics["recall@3"] == pytest.approx(sum(is_retrieved) / len(labels))


def test_both_the_runs_folder_and_the_output_folder_read_as_a_table(done: Job) -> None:
    folder = done.folder / "out"
    assert pq.read_table(folder).num_rows == ROWS
    assert pq.read_table(folder / done.answers()["run_id"][0].as_py()).num_rows == ROWS


def test_nothing_is_left_in_staging(done: Job) -> None:
    assert list((done.folder / "out" / "_staging").rglob("*")) == []


def test_a_finished_run_answered_again_touches_nothing_and_loads_neither_ray_nor_chroma_nor_torch(done: Job) -> None:
    (file,) = (done.folder / "out").glob("*/answers.parquet")
    before = file.stat().st_mtime_ns
    ended = done.light("run")
    assert "Already done" in ended.out
    assert (ended.code, ended.heavy) == (0, set())
    assert file.stat().st_mtime_ns == before


def test_an_index_made_again_is_already_done(done: Job) -> None:
    assert "Already done" in done.light("index").out


def test_an_explicit_run_id_of_other_settings_is_refused(done: Job) -> None:
    run_id = done.answers()["run_id"][0].as_py()
    ended = done.light("run", run_id=run_id, retrieve__top_k=2)
    assert (ended.code, len(ended.err.splitlines())) == (4, 1)
    assert "run_id" in ended.err


def test_the_summary_counts_tokens_and_names_the_answers(done: Job, undisturbed: pa.Table) -> None:
    ended = done.light("run")
    assert f"{sum(undisturbed['prompt_tokens'].to_pylist()):,} in prompts" in ended.out
    assert "answers.parquet" in ended.out


@pytest.mark.soak
def test_row_errors_below_the_rate_are_rows_and_above_it_publish_nothing(job: Job, done: Job) -> None:
    loaded = {"index__uri": done.folder / "index", "chroma__path": done.folder / "chroma"}
    rows = [json.dumps({"prompt": f"What colour is line {n}?"}).encode() for n in range(30)]
    (job.folder / "prompts.jsonl").write_bytes(b"\n".join([*rows, *BAD_ROWS]))
    refused = job("answer", **loaded)
    assert (refused.code, len(refused.err.splitlines())) == (5, 1)
    assert "errors.max_rate" in refused.err
    assert not list((job.folder / "out").glob("*/answers.parquet"))
    accepted = job("answer", **loaded, errors__max_rate=0.2)
    assert accepted.code == 0
    assert "34 prompts, 4 errors" in accepted.out
    assert "30 of them kept" in accepted.out
    assert " load " not in refused.out + accepted.out
    assert job.answers()["error"].to_pylist()[30:] == done.answers()["error"].to_pylist()[PROMPTS_OF_A_JOB:]
