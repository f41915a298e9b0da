"""What a command is about and whether it can run, from real files: no Ray, no Chroma, no weights loaded."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ragjob.commands.answer import Answer
from ragjob.commands.index import Index
from ragjob.commands.registry import COMMANDS, Command
from ragjob.commands.run import Run
from ragjob.config import JobSettings, keys_of
from ragjob.documents.units import plan_slices
from ragjob.engines import ENGINES, Generation
from ragjob.errors import DataError, DependencyError, RagjobError, SettingsError
from ragjob.ledger import schema
from ragjob.ledger.index import About, set_current
from ragjob.planning.checks import Failed, Warned
from ragjob.planning.identity import CommittedIndex, PendingIndex
from ragjob.settings import Decides, decides
from ragjob.stages.read import ReadDocuments
from tests.conftest import files_below
from tests.planning.jobs import Settings, ids, make_model


def commit(settings: JobSettings, **other_facts: object) -> str:
    """Commit the index version of a corpus with one chunk, and make it the current one."""
    index = Index.of(settings).index
    assert isinstance(index, PendingIndex)
    row = {"chunk_id": "1", "document_id": "depot.md", "uri": "depot.md", "chunk_index": 0}
    row |= {"text": "The depot.", "embedding": [1, 0]}
    index.ledger.segment.write(pa.Table.from_pylist([row], pa.schema([*schema.CHUNKS, *schema.embedded(2)])))
    listing = schema.LISTING.empty_table()
    about = About(schema.digest(index.facts), index.facts | other_facts, index.embedder.label, listing)
    index.ledger.commit(index.ledger.segment.survey(), about)
    set_current(index.ledger.uri, index.ledger.version)
    return index.ledger.version


def check_lines(command: Command) -> dict[str, str]:
    """What each check of a plan found."""
    return {check.name: check.line for check in command.plan().checks}


def failed(command: Command) -> dict[str, type[RagjobError]]:
    """The checks of a plan that found an error, and of what class."""
    return {check.name: type(check.error) for check in command.plan().checks if isinstance(check, Failed)}


# Identity

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


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("index", "corpus.uri"),
        ("index", "index.uri"),
        ("load", "index.uri"),
        ("answer", "prompts.uri"),
        ("answer", "output.uri"),
        ("run", "corpus.uri"),
        ("run", "output.uri"),
    ],
)
def test_a_command_says_what_it_requires(settings: Settings, command: str, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"^{missing}: required by `{command}`"):
        COMMANDS[command].of(settings(**{missing: "null"}))


# What is there already


def flows(command: Command) -> list[str]:
    """The flows whose pools a plan packs."""
    line = check_lines(command)["pools"]
    return [] if line == "none" else [part.partition(":")[0] for part in line.split("; ")]


def test_what_remains_depends_on_command_and_version(settings: Settings) -> None:
    before = [flows(COMMANDS[command].of(settings())) for command in ("index", "run")]
    commit(settings())
    after = [flows(COMMANDS[command].of(settings())) for command in ("index", "run", "answer", "load")]
    assert before == [["index"], ["index", "answer"]]
    assert after == [["index"], ["index", "answer"], ["index", "answer"], []]  # for the sentences


def test_nothing_is_embedded_for_a_version_whose_sentences_are_there_or_not_wanted(settings: Settings) -> None:
    commit(settings())
    unwanted = {"retrieve.sentences": "false"}
    without = [flows(COMMANDS[command].of(settings(**unwanted))) for command in ("index", "answer")]
    index = Run.of(settings()).index
    assert isinstance(index, CommittedIndex)
    types = schema.sentences_embedded(2)
    for part in index.sentences.missing():
        index.sentences.staged.write(part, pa.table([pa.array([[]], kind) for kind in types.types], types))
    index.sentences.join()
    there = [flows(COMMANDS[command].of(settings())) for command in ("index", "answer")]
    assert without == there == [[], ["answer"]]


def test_an_index_is_pending_until_it_is_committed(settings: Settings) -> None:
    before = Run.of(settings()).index
    commit(settings())
    after = Run.of(settings()).index
    assert (type(before), type(after)) == (PendingIndex, CommittedIndex)
    assert before.ledger.version == after.ledger.version


def test_answers_come_from_the_current_version_or_the_one_named(settings: Settings) -> None:
    first = commit(settings())
    second = commit(settings(corpus__id_column="id"))
    assert first != second
    assert Answer.of(settings()).index.ledger.version == second
    assert Answer.of(settings(index__version=first)).index.ledger.version == first


@pytest.mark.parametrize("command", ["answer", "load"])
def test_an_index_that_isnt_there_is_named(settings: Settings, command: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^index.uri: no index in {tmp_path}/index; run `ragjob index`$"):
        COMMANDS[command].of(settings())
    with pytest.raises(DataError, match=r"^index.version: no index version v9 in .*; run `ragjob index`$"):
        COMMANDS[command].of(settings(index__version="v9"))


def test_an_index_of_another_release_is_refused(settings: Settings) -> None:
    version = commit(settings(), format=0)
    with pytest.raises(DataError, match=f"^index.uri: version {version} was made by another release; run"):
        COMMANDS["answer"].of(settings())


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [
        ("chunk.size", "100", "200, but the settings say 100"),
        ("embed.max_length", "64", "None, but the settings say 64"),
    ],
)
def test_an_index_of_other_settings_is_refused(settings: Settings, key: str, value: str, difference: str) -> None:
    commit(settings())
    with pytest.raises(DataError, match=f"^{key}: index version .* was made with {difference}; set it back, or run"):
        COMMANDS["answer"].of(settings(**{key: value}))


def test_an_index_of_another_model_is_refused_by_both_names(
    settings: Settings, model: Path, tmp_path: Path, minilm: str
) -> None:
    commit(settings())
    other = make_model(tmp_path / "other", minilm, b"34")
    with pytest.raises(DataError, match=f"^embed.model: .* was made with '{model}@.*', but the settings say '{other}@"):
        COMMANDS["answer"].of(settings(embed__model=other))


# Inputs and outputs


@pytest.mark.parametrize(
    ("key", "inside", "message"),
    [
        (
            "output.uri",
            "corpus/out",
            "output.uri: {0}/corpus/out lies inside corpus.uri, {0}/corpus, and would be read",
        ),
        ("index.uri", "corpus/index", "index.uri: {0}/corpus/index lies inside corpus.uri"),
        ("chroma.path", "corpus/chroma", "chroma.path: {0}/corpus/chroma lies inside corpus.uri"),
        ("index.uri", "corpus", "corpus.uri: {0}/corpus holds files of index.uri, {0}/corpus; name a folder or glob"),
        ("output.uri", "", "corpus.uri: {0}/corpus holds files of output.uri, {0}/; name a folder or glob"),
        ("prompts.uri", "corpus/*/asked.csv", None),
    ],
)
def test_what_a_job_writes_cant_lie_among_what_it_reads(
    settings: Settings, tmp_path: Path, key: str, inside: str, message: str | None
) -> None:
    with pytest.raises(RagjobError, match=f"^{message.format(tmp_path) if message else 'prompts.uri: '}"):
        Run.of(settings(**{key: f"{tmp_path}/{inside}"}))


@pytest.mark.parametrize(
    ("corpus", "prompts"),
    [
        ("corpus", "corpus/fares.csv"),
        ("corpus", "corpus"),
        ("corpus", "corpus/*.csv"),
        ("corpus", "link.csv"),
        ("corpus", "x/../corpus/fares.csv"),
        ("corpus/fares.csv", "corpus/fares.csv"),
        ("corpus/*.csv", "corpus/fares.csv"),
        ("corpus/**", "link/fares.csv"),
        ("link", "corpus/fares.csv"),
    ],
)
def test_prompts_among_the_documents_are_refused(settings: Settings, tmp_path: Path, corpus: str, prompts: str) -> None:
    (tmp_path / "link").symlink_to("corpus")
    (tmp_path / "link.csv").symlink_to("corpus/fares.csv")
    (tmp_path / "x").mkdir()
    uris = {"corpus__uri": f"{tmp_path}/{corpus}", "prompts__uri": f"{tmp_path}/{prompts}"}
    with pytest.raises(SettingsError, match=r"^prompts.uri: .*\.csv is also in corpus.uri, .*exclude it with corpus.e"):
        Index.of(settings(**uris, corpus__text_column="text", prompts__prompt_column="text"))


def test_prompts_that_are_left_out_of_the_corpus_may_lie_beside_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "prompts.csv").write_text("prompt\nWho?\n")
    apart = settings(prompts__uri=f"{tmp_path}/corpus/prompts.csv", corpus__exclude='["prompts.csv"]')
    assert Run.of(apart).plan().errors == []


def test_an_index_is_made_before_there_are_prompts(settings: Settings, tmp_path: Path) -> None:
    assert Index.of(settings(prompts__uri=f"{tmp_path}/corpus/none.csv")).plan().errors == []


@pytest.mark.parametrize("key", ["index.uri", "output.uri", "chroma.path"])
def test_a_link_into_the_corpus_is_no_place_to_write_to(settings: Settings, tmp_path: Path, key: str) -> None:
    (tmp_path / "link").symlink_to("corpus")
    with pytest.raises(SettingsError, match=f"^{key}: {tmp_path}/link/x lies inside corpus.uri"):
        Run.of(settings(**{key: f"{tmp_path}/link/x"}))


def test_a_plan_says_which_files_are_passed_over(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "_notes.md").touch()
    (tmp_path / "corpus" / "map.png").touch()
    lines = [check.line for check in Index.of(settings()).plan().checks if check.name == "files"]
    assert lines == [
        "corpus.uri: passed over 1 file (.md), name begins with . or _: _notes.md",
        "corpus.uri: passed over 1 file (.png), no reader for this extension: map.png",
    ]


def test_a_folder_whose_name_only_begins_like_the_inputs_is_free(settings: Settings, tmp_path: Path) -> None:
    assert Run.of(settings(index__uri=f"{tmp_path}/corpus-index")).plan().errors == []


def test_prompts_that_were_edited_since_they_were_listed_are_refused(settings: Settings, tmp_path: Path) -> None:
    run = Run.of(settings())
    (tmp_path / "prompts.csv").write_text("prompt\nWho?\n")
    with pytest.raises(
        DataError, match=r"^prompts.uri: .*prompts.csv: was changed while the job was running; leave inputs"
    ):
        run.plan().require()


def test_a_document_that_was_edited_since_it_was_listed_isnt_read(settings: Settings, tmp_path: Path) -> None:
    index = Index.of(settings()).index
    assert isinstance(index, PendingIndex)
    (unit,) = plan_slices(index.segments, 9, 10**9)
    (tmp_path / "corpus" / "depot.md").write_text("It has burnt down.")
    with pytest.raises(DataError, match=r"^.*/depot.md: was changed while the job was running; leave inputs alone"):
        ReadDocuments(index.settings.corpus, frozenset())(unit)


# The checks


def test_a_plan_tells_in_one_line_each_what_it_found(settings: Settings, tmp_path: Path) -> None:
    version, run_id = ids(settings())
    lines = check_lines(Run.of(settings()))
    assert lines.pop("memory").startswith("about 2.1 GB")
    assert lines.pop("cluster").startswith("1 nodes with 2 CPUs, ")
    assert lines.pop("warning").startswith("with cluster.cpus, ")
    assert lines == {
        "corpus": "2 documents in 2 files, 85 bytes",
        "chunks": "up to 200 tokens, sharing 20; the model reads 510",
        "words": f"2 documents sampled; {tmp_path}/model knows most of their words",
        "searches": "by the first 510 tokens of a prompt",
        "prompts": "1 prompts, passing through asked, id",
        "output": f"run {run_id} in {tmp_path}/out",
        "prompt": "up to 1500 tokens of passages",
        "engine": "extractive",
        "index": f"version {version}, to be made",
        "pools": "index: 1 of 2 CPUs; answer: 1.6 of 2 CPUs",
        "chroma": "the job's own, data in a temporary folder",
        "proposal": "none: by calculation, pools, batches and blocks suit this cluster",
    }


def test_settings_that_take_all_nodes_to_be_equal_are_warned_of(settings: Settings) -> None:
    warning = check_lines(Index.of(settings()))["warning"]
    assert (
        warning
        == "with cluster.cpus, cluster.gpus, cluster.nodes all nodes are taken to be equal; use cluster.groups instead"
    )
    none = dict.fromkeys(["cluster__cpus", "cluster__gpus", "cluster__nodes"], "null")
    groups = settings(**none, cluster__groups="[{name: cpu, cpus: 4, max: 1}]")
    assert "warning" not in check_lines(Index.of(groups))


def test_a_plan_proposes_what_would_suit_the_cluster_better(settings: Settings) -> None:
    lines = check_lines(Run.of(settings(generate__pool__max=2, generate__pool__num_cpus=0.1)))
    assert lines["proposal"] == "generate.pool.max=1 (calculated): one actor per node, with all its 2 threads"


def test_a_plan_proposes_nothing_where_something_is_wrong_or_nothing_is_left_to_do(
    settings: Settings, tmp_path: Path
) -> None:
    commit(settings())
    done = COMMANDS["load"].of(settings(chroma__path=tmp_path / "chroma"))
    refused = COMMANDS["answer"].of(settings(prompts__prompt_column="q"))
    assert "proposal" not in check_lines(done) | check_lines(refused)


def test_a_plan_leaves_nothing_behind(settings: Settings, tmp_path: Path) -> None:
    run = Run.of(settings())
    before = files_below(tmp_path)
    run.plan().require()
    assert files_below(tmp_path) == before


def test_a_plan_looks_at_what_remains_alone(settings: Settings) -> None:
    version = commit(settings())
    lines = check_lines(COMMANDS["answer"].of(settings()))
    of_the_cluster = ["cluster", "warning", "pools", "memory", "chroma", "proposal"]
    assert [*lines] == ["prompts", "output", "searches", "prompt", "engine", "index", "sentences", *of_the_cluster]
    assert lines["index"] == f"version {version}, 1 chunks"


def test_a_plan_goes_through_all_checks_and_raises_the_first_error(settings: Settings) -> None:
    run = Run.of(settings(chunk__size=600, prompts__prompt_column="q", cluster__nodes=2))
    assert failed(run) == {"chunks": SettingsError, "prompts": DataError, "chroma": SettingsError}
    with pytest.raises(SettingsError, match=r"^chunk.size: 600 tokens, but .*/model reads only 510 of a text, besides"):
        run.plan().require()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"embed.max_length": 100}, SettingsError, "chunk.size: 200 tokens, but .* reads only 98 of .*; set it to 98"),
        ({"embed.pool.max": 9}, SettingsError, "embed.pool.max: the pools of `index` reserve 9 CPUs"),
        ({"cluster.nodes": 2}, SettingsError, "chroma.url: required on 2 nodes"),
        (
            {"chroma.url": "http://127.0.0.1:9", "chroma.timeout_s": 0.2},
            DependencyError,
            "chroma.url: http://127.0.0.1",
        ),
        (
            {"corpus.text_column": "txt"},
            DataError,
            "corpus.text_column: .*fares.csv has no column 'txt'; it has text, b",
        ),
        ({"prompts.id_column": "number"}, DataError, "prompts.id_column: .* no column 'number'; it has prompt, asked"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_plan_refuses_what_would_fail_later(
    settings: Settings, wrong: dict[str, Any], error: type[RagjobError], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        Run.of(settings(**wrong)).plan().require()


PASSAGE = "passage: "  # two of MiniLM's tokens; two more stand around every text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"chunk.size": 509, "embed.document_prefix": PASSAGE},
            "chunk.size: 509 tokens, but .*/model reads only 508 of a text, besides embed.document_prefix .* set it to",
        ),
        (
            {"embed.document_prefix": PASSAGE * 252, "chunk.size": 8, "chunk.overlap": 0},
            "embed.document_prefix: the prefix and special tokens leave 6 of the tokens .*; shorten the prefix",
        ),
        (
            {"embed.query_prefix": PASSAGE, "embed.max_length": 11, "chunk.size": 8, "chunk.overlap": 0},
            "embed.query_prefix: the prefix and special tokens leave 7 of the tokens",
        ),
        (
            {"embed.document_prefix": PASSAGE, "embed.max_length": 8, "chunk.strategy": "line"},
            "embed.document_prefix: the prefix and special tokens leave 4 of the tokens",
        ),
    ],
    ids=["chunks", "document prefix", "query prefix", "lines"],
)
def test_a_prefix_that_pushes_text_out_of_what_the_model_reads_is_refused(
    settings: Settings, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        Run.of(settings(**wrong)).plan().require()


def test_a_chunk_may_have_all_the_tokens_that_a_prefix_leaves(settings: Settings) -> None:
    more = {"chunk.size": 508, "chunk.context": "none", "embed.document_prefix": PASSAGE}
    lines = check_lines(Run.of(settings(**more)))
    assert lines["chunks"] == "up to 508 tokens, sharing 20; the model reads 508"


@pytest.mark.parametrize(
    ("size", "warning"),
    [
        (495, ", which leaves 15 for a chunk's title and headings, so that most of them are cut off; "),
        (510, ", which leaves 0 for a chunk's title and headings, so that most of them are cut off; "),
    ],
)
def test_a_plan_warns_of_chunks_that_leave_little_room_for_their_context(
    settings: Settings, size: int, warning: str
) -> None:
    plan = Run.of(settings(chunk__size=size)).plan()
    warned = next(check for check in plan.checks if isinstance(check, Warned))
    remedy = "set chunk.size to 494 at most, or set chunk.context to none"
    assert (warned.name, warned.line.partition("reads 510")[2]) == ("chunks", warning + remedy)
    plan.require()


@pytest.mark.parametrize("more", [{"chunk__size": 494}, {"chunk__size": 510, "chunk__context": "none"}])
def test_a_plan_doesnt_warn_of_chunks_with_room_for_their_context_or_without_one(
    settings: Settings, more: dict[str, object]
) -> None:
    assert [check.name for check in Run.of(settings(**more)).plan().checks if isinstance(check, Warned)] == ["warning"]


def test_a_prefix_of_the_models_own_counts_unless_another_is_set(settings: Settings, model: Path) -> None:
    prompts = {"query": "Represent this question for searching: ", "document": PASSAGE}
    (model / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    with_own = check_lines(Run.of(settings()))
    assert (with_own["chunks"][-3:], with_own["searches"]) == ("508", "by the first 504 tokens of a prompt")
    assert check_lines(Run.of(settings(embed__document_prefix="")))["chunks"].endswith("reads 510")


@pytest.mark.parametrize("strategy", ["tokens", "line"])
def test_a_plan_warns_of_documents_whose_words_the_model_doesnt_know(
    settings: Settings, tmp_path: Path, strategy: str
) -> None:
    (tmp_path / "corpus" / "thai.md").write_text("ที่สถานีทุกสิบนาทีและออกเดินทางไปยังท่าเรือ")
    (tmp_path / "corpus" / "undecodable.md").write_bytes(b"\xff\xfe\xff")
    plan = Run.of(settings(chunk__strategy=strategy)).plan()
    warned = next(check for check in plan.checks if isinstance(check, Warned))
    assert warned.name == "words"
    assert re.match(r"1 of 3 sampled documents consist mostly of words that .*the first is thai.md", warned.line)
    plan.require()


def test_lines_are_chunks_up_to_what_the_model_reads(settings: Settings) -> None:
    lines = settings(chunk__strategy="line", embed__max_length=64)
    chunks = check_lines(COMMANDS["index"].of(lines))["chunks"]
    assert chunks == "one chunk per line; the model reads up to 62 tokens of it"


@pytest.mark.parametrize(("key", "place"), [("output.uri", "output"), ("index.uri", "index")])
def test_a_place_that_cant_be_written_is_found_by_its_plan(
    settings: Settings, tmp_path: Path, key: str, place: str
) -> None:
    (tmp_path / "file").write_text("")
    run = Run.of(settings(**{key: tmp_path / "file" / "in"}))
    with pytest.raises(DependencyError, match=f"^{key}: "):
        run.plan().require()
    assert failed(run) == {place: DependencyError}


def test_a_model_without_a_tokenizer_is_found_by_its_plan(settings: Settings, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=rf"^embed.model: {model} has no tokenizer.json"):
        COMMANDS["index"].of(settings()).plan().require()


def test_a_load_needs_a_server_that_lasts(settings: Settings, tmp_path: Path) -> None:
    commit(settings())
    with pytest.raises(
        SettingsError, match=r"^chroma.url: `load` needs a permanent server; set chroma.url or chroma.p"
    ):
        COMMANDS["load"].of(settings()).plan().require()
    kept = check_lines(COMMANDS["load"].of(settings(chroma__path=tmp_path / "chroma")))
    assert kept["chroma"] == f"the job's own, data in {tmp_path}/chroma"


def test_more_models_than_memory_holds_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragjob.runtime.cluster._local_memory", lambda: 10**9)
    with pytest.raises(SettingsError, match=r"^.*.pool.max: about 2.* GB for models and vectors, but a node has 1"):
        Run.of(settings()).plan().require()


# Filters


def filter_error(command: Command) -> str:
    """What the check of the filter says that won't do."""
    [line] = [check.line for check in command.plan().checks if isinstance(check, Failed) and check.name == "filter"]
    return line


def test_a_plan_says_the_filter_and_what_is_known_only_later(settings: Settings) -> None:
    columns = {"corpus__metadata_columns": '["body"]'}
    sure = Run.of(settings(retrieve__where='{"body": "{asked}", "size": [41, null]}', **columns))
    unsure = Run.of(settings(retrieve__where='{"author": "Ada"}', **columns))
    assert check_lines(sure)["filter"] == "passages whose body is {asked}, size is 41 or null"
    assert check_lines(unsure)["filter"] == (
        'passages whose author is "Ada"; whether documents have author is known once they are read'
    )
    assert "filter" not in check_lines(Run.of(settings()))


def test_metadata_that_isnt_there_is_named_with_what_is(settings: Settings, tmp_path: Path) -> None:
    rows = {"corpus__uri": tmp_path / "corpus" / "fares.csv", "corpus__metadata_columns": '["body"]'}
    pending = Run.of(settings(retrieve__where='{"owner": 1}', **rows))
    assert failed(pending)["filter"] is DataError
    assert filter_error(pending).startswith("retrieve.where: no metadata 'owner' in the corpus, which has body; ")
    version = commit(settings())
    committed = Answer.of(settings(retrieve__where='{"owner": 1}'))
    assert filter_error(committed).startswith(
        f"retrieve.where: no metadata 'owner' in index version {version}, which has none; "
    )


def test_a_filter_by_a_column_that_the_prompts_lack_is_refused(settings: Settings) -> None:
    run = Run.of(settings(retrieve__where='{"path": "{tenant}"}'))
    assert failed(run)["filter"] is DataError
    assert filter_error(run) == (
        "retrieve.where: no column 'tenant' passes through from the prompts (those that do: asked, id); "
        "add the column to the prompts, or correct the filter"
    )
