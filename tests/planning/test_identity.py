"""Which settings and inputs decide an index version and a run, and which leave them as they are."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ragjob.commands.run import Run
from ragjob.config import JobSettings, keys_of
from ragjob.engines import ENGINES, Generation
from ragjob.settings import Decides, decides
from tests.planning.jobs import Settings, ids

IN_THE_INDEX = {
    "corpus.text_column": "body",
    "corpus.id_column": "id",
    "corpus.max_pages": "100",
    "corpus.max_chars": "1000000",
    "chunk.strategy": "line",
    "chunk.size": "100",
    "chunk.overlap": "10",
    "chunk.min_chars": "5",
    "embed.query_prefix": "query: ",
    "embed.document_prefix": "passage: ",
    "embed.max_length": "64",
    "corpus.include": '["**"]',
    "corpus.exclude": '["drafts/**"]',
    "corpus.title_column": "title",
    "corpus.metadata_columns": '["year"]',
    "chunk.context": "title",
}
IN_THE_RUN = {
    "prompts.prompt_column": "asked",
    "prompts.id_column": "id",
    "retrieve.top_k": "4",
    "retrieve.min_score": "0.5",
    "retrieve.where": '{"path": "depot.md"}',
    "retrieve.candidates": "9",
    "retrieve.sentences": "false",
    "retrieve.language": "de",
    "retrieve.fusion": "rrf",
    "retrieve.lexical_weight": "0.5",
    "augment.system": "Be brief.",
    "augment.template": "{prompt} {context}",
    "augment.max_context_tokens": "100",
    "augment.sources": "true",
}
IN_THE_RUN_OF_A_MODEL = {"generate.max_new_tokens": "100", "generate.temperature": "0.5"}
IN_NEITHER = {
    "commit_rows": "9",
    "index.cache": "other",
    "index.collection": "other",
    "chroma.url": "http://chroma:8000",
    "chroma.path": "chroma",
    "chroma.timeout_s": "9",
    "embed.dtype": "float32",
    "embed.batch_size": "9",
    "embed.pool.min": "1",
    "embed.pool.max": "2",
    "embed.pool.num_cpus": "0.5",
    "embed.pool.num_gpus": "0.5",
    "embed.pool.group": "nodes",
    "retrieve.batch_size": "9",
    "retrieve.pool.min": "1",
    "retrieve.pool.max": "2",
    "retrieve.pool.num_cpus": "0.5",
    "retrieve.pool.num_gpus": "0.5",
    "retrieve.pool.group": "nodes",
    "rerank.batch_size": "9",
    "rerank.dtype": "float32",
    "rerank.pool.min": "1",
    "rerank.pool.max": "2",
    "rerank.pool.num_cpus": "0.5",
    "rerank.pool.num_gpus": "0.5",
    "rerank.pool.group": "nodes",
    "generate.dtype": "float32",
    "generate.max_engine_restarts": "9",
    "generate.pool.min": "1",
    "generate.pool.max": "2",
    "generate.pool.num_cpus": "0.6",
    "generate.pool.num_gpus": "0.5",
    "generate.pool.group": "nodes",
    "models.cache": "cache",
    "errors.max_rate": "0.5",
    "keep.versions": "9",
    "keep.staging_days": "9",
    "cluster.groups": "[]",
    "cluster.cpus": "9",
    "cluster.gpus": "9",
    "cluster.nodes": "9",
    "cluster.gpu_gb": "9",
    "s3.endpoint_url": "http://s3:9000",
    "s3.region": "eu-west-1",
    "s3.path_style": "true",
    "s3.timeout_s": "9",
    "s3.sse": "AES256",
    "s3.kms_key_id": "null",
}
# Names of inputs, outputs and models, of which the content counts, and what has one value only.
NAMES = {
    *("run_id", "corpus.uri", "prompts.uri", "index.uri", "index.version", "output.uri", "retrieve.mode"),
    *("rerank.model", "rerank.revision", "rerank.candidates"),  # the last, with a model alone
    *("embed.model", "embed.revision", "generate.engine", "generate.model", "generate.revision"),
}
SHARED = {key for key in keys_of() if not key.startswith("generate.")} | {*keys_of(Generation, "generate.")}


def mark(key: str) -> str | None:
    """What the field under a key says that it decides."""
    model: Any = JobSettings
    *sections, name = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
    return decides(model, name)


def test_every_setting_says_what_it_decides() -> None:
    assert [key for key in keys_of() if mark(key) not in list(Decides)] == []


def test_of_every_setting_it_is_known_whether_it_decides_an_index_or_a_run() -> None:
    groups = [IN_THE_INDEX, IN_THE_RUN, IN_THE_RUN_OF_A_MODEL, IN_NEITHER, NAMES]
    assert sorted(key for group in groups for key in group) == sorted(SHARED)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (IN_THE_INDEX, Decides.INDEX),
        (IN_THE_RUN | IN_THE_RUN_OF_A_MODEL, Decides.RUN),
        (IN_NEITHER, Decides.NEITHER),
    ],
)
def test_a_setting_decides_what_its_mark_says(keys: dict[str, str], what: Decides) -> None:
    assert {key: mark(key) for key in keys} == dict.fromkeys(keys, what)


@pytest.mark.parametrize(("key", "value"), IN_THE_INDEX.items(), ids=IN_THE_INDEX)
def test_what_decides_chunks_and_vectors_makes_another_version_and_run(
    settings: Settings, key: str, value: str
) -> None:
    (version, run_id), (other_version, other_run_id) = ids(settings()), ids(settings(**{key: value}))
    assert version != other_version
    assert run_id != other_run_id


@pytest.mark.parametrize(("key", "value"), IN_THE_RUN.items(), ids=IN_THE_RUN)
def test_what_decides_answers_alone_makes_another_run_of_the_same_version(
    settings: Settings, key: str, value: str
) -> None:
    (version, run_id), (other_version, other_run_id) = ids(settings()), ids(settings(**{key: value}))
    assert version == other_version
    assert run_id != other_run_id


@pytest.mark.parametrize(("key", "value"), IN_NEITHER.items(), ids=IN_NEITHER)
def test_how_a_job_is_computed_leaves_version_and_run_as_they_are(settings: Settings, key: str, value: str) -> None:
    assert ids(settings(**{key: value})) == ids(settings())


@pytest.mark.parametrize("engine", [name for name, engine in ENGINES.items() if "temperature" not in engine.LEFT_OUT])
@pytest.mark.parametrize(("key", "value"), IN_THE_RUN_OF_A_MODEL.items(), ids=IN_THE_RUN_OF_A_MODEL)
def test_what_only_a_language_model_uses_decides_its_runs_alone(
    settings: Settings, model: Path, key: str, value: str, engine: str
) -> None:
    generating = {"generate.engine": engine, "generate.model": model}
    assert ids(settings(**{key: value})) == ids(settings())
    assert ids(settings(**generating, **{key: value})) != ids(settings(**generating))


def test_a_model_that_reranks_decides_the_run_by_its_content_and_nothing_else_of_its_section_without_one(
    settings: Settings, model: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    fewer = {"rerank.candidates": "9"}
    before = ids(settings())
    version, run_id = ids(settings(**{"rerank.model": model}))
    assert (version, run_id != before[1]) == (before[0], True)
    assert ids(settings(**fewer)) == before
    assert ids(settings(**{"rerank.model": copy})) == (version, run_id)
    assert ids(settings(**{"rerank.model": model}, **fewer)) != (version, run_id)


def test_an_input_counts_by_its_content_however_it_is_spelled(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = ids(settings())
    assert ids(settings(corpus__uri="corpus/", prompts__uri="./prompts.csv")) == before
    (tmp_path / "prompts.csv").write_text("prompt\nWho?\n")
    asked_otherwise = ids(settings())
    (tmp_path / "corpus" / "new.md").write_text("New.")
    assert (asked_otherwise[0], asked_otherwise[1] == before[1]) == (before[0], False)
    assert ids(settings())[0] != before[0]


def test_a_run_has_the_name_that_is_given(settings: Settings) -> None:
    assert Run.of(settings(run_id="mine")).task.ledger.run_id == "mine"
