"""What a command is about and whether it can run, from real files: no Ray, no Chroma, no weights loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from job import plan, schema
from job.config import JobSettings, keys_of, load_settings
from job.errors import DataError, DependencyError, RagjobError, SettingsError
from job.ledger import set_current
from job.plan import Task, check, identify
from job.stages.read import ReadDocuments
from tests.conftest import files_below

Settings = Callable[..., JobSettings]


@pytest.fixture
def model(tmp_path: Path, minilm: str) -> Path:
    return make_model(tmp_path / "model", minilm)


def make_model(folder: Path, minilm: str, weights: bytes = b"12") -> Path:
    """A model with MiniLM's tokenizer, 512 positions and two bytes of weights."""
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 512, "hidden_size": 8}')
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_bytes((Path(minilm) / "tokenizer.json").read_bytes())
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> Settings:
    """Settings of a small job on two CPUs; `more` as on the command line."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "depot.md").write_text("The depot at Harrow Lane holds forty cars.")
    (tmp_path / "corpus" / "fares.csv").write_text("text,body,id\nA ticket costs two pence.,a,b\n")
    (tmp_path / "prompts.csv").write_text("prompt,asked,id\nWhere is the depot?,x,y\n")
    given = {
        "corpus.uri": tmp_path / "corpus",
        "prompts.uri": tmp_path / "prompts.csv",
        "index.uri": tmp_path / "index",
        "output.uri": tmp_path / "out",
        "embed.model": model,
        "cluster.cpus": 2,
        "cluster.gpus": 0,
        "cluster.nodes": 1,
    }

    def make(**more: object) -> JobSettings:
        named = given | {name.replace("__", "."): value for name, value in more.items()}
        return load_settings(None, [f"{name}={value}" for name, value in named.items()])

    return make


def commit(task: Task, **other_facts: object) -> str:
    """Commit the index version of a task with one chunk, and make it the current one."""
    row = {"chunk_id": "1", "document_id": "depot.md", "uri": "depot.md", "chunk_index": 0, "embedding": [1, 0]}
    task.index.write(pa.Table.from_pylist([row], pa.schema([*schema.CHUNKS, *schema.embedded(2)])))
    about = {"fingerprint": task.fingerprint, "settings": task.facts | other_facts, "embed_model": task.embed.label}
    task.index.commit(task.index.survey(), **about)
    set_current(str(task.settings.index.uri), task.version)
    return task.version


def ids(settings: JobSettings) -> tuple[str, str]:
    task = identify(settings, "run")
    return task.version, task.run_id


def found(task: Task) -> dict[str, str]:
    """What each check of a plan found."""
    return {line.name: line.found for line in check(task).checks}


# Identity

IN_THE_INDEX = {
    "corpus.text_column": "body",
    "corpus.id_column": "id",
    "chunk.strategy": "line",
    "chunk.size": "100",
    "chunk.overlap": "10",
    "chunk.min_chars": "5",
    "embed.query_prefix": "query: ",
    "embed.document_prefix": "passage: ",
    "embed.max_length": "64",
}
IN_THE_RUN = {
    "prompts.prompt_column": "asked",
    "prompts.id_column": "id",
    "retrieve.top_k": "4",
    "retrieve.min_score": "0.5",
    "augment.system": "Be brief.",
    "augment.template": "{prompt} {context}",
    "augment.max_context_tokens": "100",
}
IN_THE_RUN_OF_A_MODEL = {"generate.max_new_tokens": "100", "generate.temperature": "0.5"}
IN_NEITHER = {
    "commit_rows": "9",
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
    "retrieve.batch_size": "9",
    "retrieve.pool.min": "1",
    "retrieve.pool.max": "2",
    "retrieve.pool.num_cpus": "0.5",
    "retrieve.pool.num_gpus": "0.5",
    "generate.dtype": "float32",
    "generate.batch_size": "9",
    "generate.batch_tokens": "9",
    "generate.max_engine_restarts": "9",
    "generate.openai.base_url": "http://vllm:8000/v1",
    "generate.openai.api_key_env": "OTHER_KEY",
    "generate.openai.concurrency": "9",
    "generate.openai.timeout_s": "9",
    "generate.pool.min": "1",
    "generate.pool.max": "2",
    "generate.pool.num_cpus": "0.6",
    "generate.pool.num_gpus": "0.5",
    "models.cache": "cache",
    "errors.max_rate": "0.5",
    "keep.versions": "9",
    "keep.staging_days": "9",
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
    *("embed.model", "embed.revision", "generate.engine", "generate.model", "generate.revision"),
}
BY_ITS_KEYS = {"generate.vllm"}


def test_of_every_setting_it_is_known_whether_it_decides_an_index_or_a_run() -> None:
    groups = [IN_THE_INDEX, IN_THE_RUN, IN_THE_RUN_OF_A_MODEL, IN_NEITHER, NAMES, BY_ITS_KEYS]
    assert sorted(key for group in groups for key in group) == sorted(keys_of())


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


@pytest.mark.parametrize("engine", ["transformers", "vllm", "openai"])
@pytest.mark.parametrize(("key", "value"), IN_THE_RUN_OF_A_MODEL.items(), ids=IN_THE_RUN_OF_A_MODEL)
def test_what_only_a_language_model_uses_decides_its_runs_alone(
    settings: Settings, model: Path, key: str, value: str, engine: str
) -> None:
    generating = {"generate.engine": engine, "generate.model": model}
    assert ids(settings(**{key: value})) == ids(settings())
    assert ids(settings(**generating, **{key: value})) != ids(settings(**generating))


def test_of_vllms_arguments_those_decide_a_run_that_may_change_answers(settings: Settings, model: Path) -> None:
    generating = {"generate.engine": "vllm", "generate.model": model}
    before = ids(settings(**generating))
    assert ids(settings(**generating, generate__vllm__max_num_seqs=9, generate__vllm__enforce_eager=True)) == before
    assert ids(settings(**generating, generate__vllm__quantization="fp8")) != before
    assert ids(settings(generate__vllm__quantization="fp8")) == ids(settings())


def test_a_model_behind_an_api_counts_by_its_name(settings: Settings) -> None:
    asked = identify(settings(generate__engine="openai", generate__model="small"), "run")
    assert (asked.generate, asked.generate_label) == (None, "openai:small")
    assert ids(settings(generate__engine="openai", generate__model="large")) != (asked.version, asked.run_id)


def test_an_engine_that_cannot_run_is_found_by_its_plan(settings: Settings) -> None:
    made = check(identify(settings(generate__engine="openai"), "run"))
    with pytest.raises(SettingsError, match=r"^generate.openai.base_url: required by engine openai"):
        made.require()


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
    assert identify(settings(run_id="mine"), "run").run_id == "mine"


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
        identify(settings(**{missing: "null"}), command)


# What is there already


def test_what_remains_depends_on_command_and_version(settings: Settings) -> None:
    before = [identify(settings(), command).flows for command in ("index", "run")]
    commit(identify(settings(), "index"))
    after = [identify(settings(), command).flows for command in ("index", "run", "answer", "load")]
    assert before == [["index"], ["index", "answer"]]
    assert after == [[], ["answer"], ["answer"], []]


def test_answers_come_from_the_current_version_or_the_one_named(settings: Settings) -> None:
    first = commit(identify(settings(), "index"))
    second = commit(identify(settings(corpus__id_column="id"), "index"))
    assert first != second
    assert identify(settings(), "answer").version == second
    assert identify(settings(index__version=first), "answer").version == first


@pytest.mark.parametrize("command", ["answer", "load"])
def test_an_index_that_isnt_there_is_named(settings: Settings, command: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^index.uri: no index in {tmp_path}/index; run `ragjob index`$"):
        identify(settings(), command)
    with pytest.raises(DataError, match=r"^index.version: no index version v9 in .*; run `ragjob index`$"):
        identify(settings(index__version="v9"), command)


def test_an_index_of_another_release_is_refused(settings: Settings) -> None:
    version = commit(identify(settings(), "index"), format=0)
    with pytest.raises(DataError, match=f"^index.uri: version {version} was made by another release; run"):
        identify(settings(), "answer")


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [("chunk.size", "100", "200, the settings say 100"), ("embed.max_length", "64", "None, the settings say 64")],
)
def test_an_index_of_other_settings_is_refused(settings: Settings, key: str, value: str, difference: str) -> None:
    commit(identify(settings(), "index"))
    with pytest.raises(DataError, match=f"^{key}: index version .* was made with {difference}; set it back, or run"):
        identify(settings(**{key: value}), "answer")


def test_an_index_of_another_model_is_refused_by_both_names(
    settings: Settings, model: Path, tmp_path: Path, minilm: str
) -> None:
    commit(identify(settings(), "index"))
    other = make_model(tmp_path / "other", minilm, b"34")
    with pytest.raises(DataError, match=f"^embed.model: .* was made with '{model}@.*', the settings say '{other}@"):
        identify(settings(embed__model=other), "answer")


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
        identify(settings(**{key: f"{tmp_path}/{inside}"}), "run")


def test_a_folder_whose_name_only_begins_like_the_inputs_is_free(settings: Settings, tmp_path: Path) -> None:
    assert identify(settings(index__uri=f"{tmp_path}/corpus-index"), "run").flows == ["index", "answer"]


def test_prompts_that_were_edited_since_they_were_listed_are_refused(settings: Settings, tmp_path: Path) -> None:
    task = identify(settings(), "run")
    (tmp_path / "prompts.csv").write_text("prompt\nWho?\n")
    with pytest.raises(DataError, match=r"^prompts.uri: .*prompts.csv: was changed since the job began; leave inputs"):
        check(task).require()


def test_a_document_that_was_edited_since_it_was_listed_isnt_read(settings: Settings, tmp_path: Path) -> None:
    task = identify(settings(), "index")
    (unit,) = plan.inputs.plan_slices(check(task).segments, 9, 10**9)
    (tmp_path / "corpus" / "depot.md").write_text("It has burnt down.")
    with pytest.raises(DataError, match=r"^.*/depot.md: was changed since the job began; leave inputs as they are"):
        ReadDocuments(task.settings.corpus, frozenset())(unit)


# The checks


def test_a_plan_tells_in_one_line_each_what_it_found(settings: Settings, tmp_path: Path) -> None:
    task = identify(settings(), "run")
    lines = found(task)
    assert lines.pop("memory").startswith("about 2.1 GB")
    assert lines == {
        "corpus": "2 documents in 2 files, 85 bytes",
        "chunks": "up to 200 tokens, sharing 20; the model reads 512",
        "prompts": "1 prompts, passing through asked, id",
        "output": f"run {task.run_id} in {tmp_path}/out",
        "prompt": "up to 1500 tokens of passages",
        "engine": "extractive",
        "index": f"version {task.version}, to be made",
        "pools": "index: 1 of 2 CPUs; answer: 1.6 of 2 CPUs",
        "chroma": "the job's own, data in a temporary folder",
        "proposal": "none: by calculation, pools, batches and blocks suit this cluster",
    }


def test_a_plan_proposes_what_would_suit_the_cluster_better(settings: Settings) -> None:
    lines = found(identify(settings(generate__pool__max=2, generate__pool__num_cpus=0.1), "run"))
    assert lines["proposal"] == "generate.pool.max=1 (calculated): an actor a node, of all its 2 threads"


def test_a_plan_proposes_nothing_where_something_is_wrong_or_nothing_is_left_to_do(
    settings: Settings, tmp_path: Path
) -> None:
    commit(identify(settings(), "index"))
    done = identify(settings(chroma__path=tmp_path / "chroma"), "load")
    refused = identify(settings(prompts__prompt_column="q"), "answer")
    assert "proposal" not in found(done) | found(refused)


def test_a_plan_leaves_nothing_behind(settings: Settings, tmp_path: Path) -> None:
    task = identify(settings(), "run")
    before = files_below(tmp_path)
    check(task).require()
    assert files_below(tmp_path) == before


def test_a_plan_looks_at_what_remains_alone(settings: Settings) -> None:
    version = commit(identify(settings(), "index"))
    lines = found(identify(settings(), "answer"))
    assert [*lines] == ["prompts", "output", "prompt", "engine", "index", "pools", "memory", "chroma", "proposal"]
    assert lines["index"] == f"version {version}, 1 chunks"


def test_a_plan_goes_through_all_checks_and_raises_the_first_error(settings: Settings) -> None:
    made = check(identify(settings(chunk__size=600, prompts__prompt_column="q", cluster__nodes=2), "run"))
    failed = {line.name: type(line.error) for line in made.checks if line.error}
    assert failed == {"chunks": SettingsError, "prompts": DataError, "chroma": SettingsError}
    with pytest.raises(SettingsError, match=r"^chunk.size: 600 tokens, but .*/model reads 510 of a"):
        made.require()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"embed.max_length": 100}, SettingsError, "chunk.size: 200 tokens, but .* reads 98 of a text; lower it"),
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
        check(identify(settings(**wrong), "run")).require()


def test_lines_are_chunks_up_to_what_the_model_reads(settings: Settings) -> None:
    lines = settings(chunk__strategy="line", embed__max_length=64)
    assert found(identify(lines, "index"))["chunks"] == "a chunk a line, read up to 64 tokens"


@pytest.mark.parametrize(("key", "place"), [("output.uri", "output"), ("index.uri", "index")])
def test_a_place_that_cant_be_written_is_found_by_its_plan(
    settings: Settings, tmp_path: Path, key: str, place: str
) -> None:
    (tmp_path / "file").write_text("")
    made = check(identify(settings(**{key: tmp_path / "file" / "in"}), "run"))
    with pytest.raises(DependencyError, match=f"^{key}: "):
        made.require()
    assert [line.name for line in made.checks if line.error] == [place]


def test_passages_and_answer_leave_room_for_the_question(settings: Settings, model: Path) -> None:
    generating = {"generate.engine": "transformers", "generate.model": model, "generate.max_new_tokens": 100}
    fits = settings(**generating, augment__max_context_tokens=400)
    line = "up to 400 tokens of passages and 100 of an answer; the model holds 512"
    assert found(identify(fits, "run"))["prompt"] == line
    made = check(identify(settings(**generating, augment__max_context_tokens=412), "run"))
    with pytest.raises(
        SettingsError, match=r"^augment.max_context_tokens: 412 of passages and 100 of an answer .* in th"
    ):
        made.require()


def test_a_model_without_a_tokenizer_is_found_by_its_plan(settings: Settings, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=rf"^embed.model: {model} has no tokenizer.json"):
        check(identify(settings(), "index")).require()


def test_a_load_needs_a_server_that_lasts(settings: Settings, tmp_path: Path) -> None:
    commit(identify(settings(), "index"))
    with pytest.raises(
        SettingsError, match=r"^chroma.url: `load` needs a server that lasts; set chroma.url or chroma.p"
    ):
        check(identify(settings(), "load")).require()
    kept = found(identify(settings(chroma__path=tmp_path / "chroma"), "load"))
    assert kept["chroma"] == f"the job's own, data in {tmp_path}/chroma"


def test_more_models_than_memory_holds_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.cluster._local_memory", lambda: 10**9)
    with pytest.raises(
        SettingsError, match=r"^.*.pool.max: about 2.* GB for models and vectors, this machine has 1.0 GB"
    ):
        check(identify(settings(), "run")).require()
