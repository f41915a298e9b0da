"""A whole run on one machine, from files to `answers.parquet`."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from job import schema
from job.sample import EXPECTED
from tests.integration.conftest import Job, make_job

pytestmark = [pytest.mark.ray, pytest.mark.services]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("done")
    job = make_job(folder, prompts=34)
    job.assignments["chroma.path"] = folder / "chroma"
    ended = job("run")
    assert (ended.code, ended.err) == (0, "")
    assert " load " in ended.out
    return job


def test_a_run_has_one_row_per_prompt_in_the_prompts_order(done: Job) -> None:
    assert done.answers()["number"].to_pylist() == list(range(34))
    assert done.answers()["error"].null_count == 34


def test_the_columns_are_those_of_the_design(done: Job) -> None:
    assert done.answers().schema.names == [
        *("prompt_id", "prompt", "number", "answer", "finish_reason", "prompt_tokens", "completion_tokens"),
        *("retrieved_ids", "retrieved_uris", "retrieved_texts", "retrieved_scores", "error"),
        *("embed_model", "generate_model", "index_version", "run_id"),
    ]


def test_at_least_27_of_the_30_expected_passages_are_retrieved(done: Job) -> None:
    passages = [json.loads(line)["passage"] for line in EXPECTED.read_text("utf-8").splitlines()]
    retrieved = ["\n".join(texts) for texts in done.answers()["retrieved_texts"].to_pylist()]
    found = [passage in text for passage, text in zip(passages[:30], retrieved[:30], strict=True)]
    assert sum(found) >= 27


def test_both_the_runs_folder_and_the_output_folder_read_as_a_table(done: Job) -> None:
    folder = done.folder / "out"
    assert pq.read_table(folder).num_rows == 34
    assert pq.read_table(folder / done.answers()["run_id"][0].as_py()).num_rows == 34


def test_nothing_is_left_in_staging(done: Job) -> None:
    assert list((done.folder / "out" / "_staging").rglob("*")) == []


def test_a_finished_run_answered_again_touches_nothing_and_loads_neither_ray_nor_chroma_nor_torch(done: Job) -> None:
    (file,) = (done.folder / "out").glob("*/answers.parquet")
    before = file.stat().st_mtime_ns
    code = (
        "import sys; sys.argv[0] = 'ragjob'; from job.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'ray', 'torch', 'chromadb'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *done.command("run")[3:]], capture_output=True, text=True, check=True
    )
    assert "Already done" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"
    assert file.stat().st_mtime_ns == before


def test_an_index_made_again_is_already_done(done: Job) -> None:
    assert "Already done" in done("index").out


def test_an_explicit_run_id_of_other_settings_is_refused(done: Job) -> None:
    run_id = done.answers()["run_id"][0].as_py()
    ended = done("run", run_id=run_id, retrieve__top_k=2)
    assert (ended.code, len(ended.err.splitlines())) == (4, 1)
    assert "run_id" in ended.err


def test_the_summary_counts_tokens_and_names_the_answers(done: Job) -> None:
    ended = done("run")
    assert f"{sum(done.answers()['prompt_tokens'].to_pylist()):,} in prompts" in ended.out
    assert "answers.parquet" in ended.out


def test_row_errors_below_the_rate_are_rows_and_above_it_publish_nothing(job: Job, done: Job) -> None:
    loaded = {"index__uri": done.folder / "index", "chroma__path": done.folder / "chroma"}
    rows = [{"prompt": f"What colour is line {n}?"} for n in range(30)]
    bad = [{"prompt": None}, {"prompt": "  "}, {"prompt": "long " * 1_000_000}]
    text = "\n".join(map(json.dumps, rows + bad))
    (job.folder / "prompts.jsonl").write_bytes(text.encode() + b'\n{"prompt": "\xff\xfe"}\n')
    refused = job("answer", **loaded)
    assert (refused.code, len(refused.err.splitlines())) == (5, 1)
    assert "errors.max_rate" in refused.err
    assert not list((job.folder / "out").glob("*/answers.parquet"))
    accepted = job("answer", **loaded, errors__max_rate=0.2)
    assert accepted.code == 0
    assert "34 prompts, 4 errors" in accepted.out
    assert "30 of them kept" in accepted.out
    assert " load " not in refused.out + accepted.out
    assert job.answers()["error"].to_pylist()[30:] == [
        "prompt is null",
        "prompt is blank",
        f"prompt has 5,000,000 characters, more than {schema.MAX_TEXT_CHARS:,}",
        "line isn't UTF-8: byte 12 is wrong",
    ]
