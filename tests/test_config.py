import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ragjob.config import JobSettings, keys_of, load_settings, require
from ragjob.errors import SettingsError

Load = Callable[..., JobSettings]
NUMBERS = {"commit_rows": 256, "chunk.size": 200, "embed.pool.max": 1, "retrieve.top_k": 3}
DESIGNED = {
    "run_id": None,
    "commit_rows": 256,
    "corpus.text_column": "text",
    "prompts.prompt_column": "prompt",
    "index.collection": "corpus",
    "index.version": None,
    "chroma.timeout_s": 60,
    "chunk.strategy": "tokens",
    "chunk.size": 200,
    "chunk.overlap": 20,
    "chunk.min_chars": 10,
    "embed.dtype": "auto",
    "embed.batch_size": 64,
    "embed.pool.min": 1,
    "embed.pool.max": 1,
    "embed.pool.num_cpus": 1,
    "embed.pool.num_gpus": 0,
    "retrieve.mode": "hybrid",
    "retrieve.top_k": 3,
    "retrieve.min_score": None,
    "retrieve.batch_size": 256,
    "generate.engine": "extractive",
    "generate.model": "Qwen/Qwen2.5-0.5B-Instruct",
    "generate.max_new_tokens": 256,
    "generate.temperature": 0,
    "errors.max_rate": 0.1,
    "s3.endpoint_url": None,
    "s3.region": None,
    "s3.timeout_s": 60,
    "keep.versions": 3,
    "keep.staging_days": 7,
}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *assignments: str) -> JobSettings:
        file = tmp_path / "job.yaml"
        file.write_text(text)
        return load_settings(file, list(assignments))

    return load


def in_yaml(values: dict[str, int]) -> str:
    """`{"chunk.size": 8}` as `chunk: {size: 8}`."""
    return "\n".join(f"{key.replace('.', ': {')}: {value}{'}' * key.count('.')}" for key, value in values.items())


def test_defaults_are_the_designs() -> None:
    settings = load_settings(None, [])
    assert {key: attrgetter(key)(settings) for key in DESIGNED} == DESIGNED


LAYER = st.dictionaries(st.sampled_from(sorted(NUMBERS)), st.integers(50, 500))


@given(file=LAYER, variables=LAYER, assignments=LAYER)
def test_an_assignment_wins_over_a_variable_over_the_file_over_the_default(
    tmp_path_factory: pytest.TempPathFactory,
    file: dict[str, int],
    variables: dict[str, int],
    assignments: dict[str, int],
) -> None:
    path = tmp_path_factory.mktemp("settings") / "job.yaml"
    path.write_text(in_yaml(file))
    with pytest.MonkeyPatch.context() as patch:
        for key, value in variables.items():
            patch.setenv("RAGJOB__" + key.replace(".", "__").upper(), str(value))
        settings = load_settings(path, [f"{key}={value}" for key, value in assignments.items()])
    assert {key: attrgetter(key)(settings) for key in NUMBERS} == NUMBERS | file | variables | assignments


@pytest.mark.parametrize("value", ["2024-01-01", "0123", "yes", "a: b", "[a]", "{a}", "a #b", " a "])
def test_an_assignment_and_a_variable_are_taken_as_they_stand(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RAGJOB__AUGMENT__SYSTEM", value)
    assert load_settings(None, []).augment.system == value
    assert load_settings(None, [f"augment.system={value}x"]).augment.system == f"{value}x"


def test_null_unsets_a_key(monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    monkeypatch.setenv("RAGJOB__PROMPTS__URI", "null")
    settings = load("corpus: {uri: books}\nprompts: {uri: asked}", "corpus.uri=null")
    assert (settings.corpus.uri, settings.prompts.uri) == (None, None)


def test_a_section_without_keys_is_all_defaults(load: Load) -> None:
    assert load("chunk:\nembed:\n  pool:\n").model_dump() == load("").model_dump()


def test_settings_are_fixed_once_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(None, []).chunk.size = 8  # type: ignore[misc]


UNKNOWN = pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("chunk.sise", "did you mean chunk.size"),
        ("embed.pool.maximum", "did you mean embed.pool.max"),
        ("promts.uri", "did you mean prompts.uri"),
        ("top_k", "did you mean retrieve.top_k"),
        ("zzzzzz", "`ragjob schema` lists the keys"),
    ],
)


@UNKNOWN
def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_one(load: Load, key: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key.split('.')[0]}.*: unknown setting; {hint}"):
        load(in_yaml({key: 8}))


@UNKNOWN
def test_an_unknown_variable_is_refused_with_the_nearest_key(
    monkeypatch: pytest.MonkeyPatch, key: str, hint: str
) -> None:
    monkeypatch.setenv("RAGJOB__" + key.replace(".", "__").upper(), "8")
    with pytest.raises(SettingsError, match=f": unknown setting; {hint}"):
        load_settings(None, [])


@UNKNOWN
def test_an_assignment_to_an_unknown_key_is_refused_with_the_nearest_one(key: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key.split('.')[0]}.*: unknown setting; {hint}"):
        load_settings(None, [f"{key}=8"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("chunk.size=many", "chunk.size: input should be a valid integer, [^']*$"),
        ("chunk.size=4", "chunk.size: input should be greater than or equal to 8, got 4$"),
        ("chunk.size.x=4", "chunk.size: input should be a valid integer$"),
        ("chunk=4", "chunk: input should be a valid dictionary"),
        ("chunk.overlap=200", "chunk: overlap 200 must be below size 200: lower overlap, or raise size$"),
        ("chunk.strategy=words", "chunk.strategy: input should be 'tokens' or 'line'$"),
        ("commit_rows=0", "commit_rows: .* greater than or equal to 1"),
        ("run_id=a/b", "run_id: string should match pattern"),
        ("corpus.uri=", "corpus.uri: string should have at least 1 character"),
        ("corpus.uri=a\nb", "corpus.uri: holds a line break or another control character; remove it"),
        ("output.uri=caf\udce9", "output.uri: input should be a valid string"),
        ("index.collection=a/b", "index.collection: string should match pattern"),
        ("index.collection=a..b", "index.collection: string should match pattern"),
        ("index.collection=corpus\n", "index.collection: string should match pattern"),
        ("index.version=../v1", "index.version: string should match pattern"),
        ("chroma.url=chroma:8000", "chroma.url: must be http://HOST:PORT"),
        ("chroma.timeout_s=0", "chroma.timeout_s: input should be greater than 0"),
        ("chroma.timeout_s=inf", "chroma.timeout_s: input should be a finite number"),
        ("embed.pool.min=3", "embed.pool: min 3 is above max 1: raise max"),
        ("embed.pool.num_cpus=0", "embed.pool.num_cpus: input should be greater than 0"),
        ("embed.pool.num_gpus=-1", "embed.pool.num_gpus: .* greater than or equal to 0"),
        ("embed.pool.num_gpus=inf", "embed.pool.num_gpus: input should be a finite number"),
        ("embed.dtype=int8", "embed.dtype: input should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("retrieve.mode=sparse", "retrieve.mode: input should be 'hybrid', 'dense' or 'lexical'"),
        ("retrieve.top_k=1001", "retrieve.top_k: .* less than or equal to 1000"),
        ("retrieve.min_score=2", "retrieve.min_score: .* less than or equal to 1"),
        ("augment.template={context}", "augment.template: must contain {context} and {prompt}"),
        ("augment.template={context}{prompt}{date}", "augment.template: .* no other field"),
        ("augment.template={context}{prompt}{prompt}", "augment.template: .* each exactly once"),
        ("augment.template={context}{prompt", "augment.template: not a template: .*; write {{ and }} for braces"),
        ("augment.template={}{}", "augment.template: must contain"),
        ("augment.template={context}{prompt:>99999999}", "augment.template: .* as they are, without a format"),
        ("augment.template={context}{prompt:{context}}", "augment.template: .* without a format"),
        ("augment.template={context!r}{prompt}", "augment.template: .* without a format"),
        ("augment.template={context.__class__}{prompt}", "augment.template: .* no other field"),
        ("generate.engine=gpt", "generate.engine: input should be 'extractive', 'transformers', 'vllm' or 'openai'"),
        ("generate.temperature=-1", "generate.temperature: .* greater than or equal to 0"),
        ("errors.max_rate=10", "errors.max_rate: .* less than or equal to 1"),
        ("cluster.nodes=0", "cluster.nodes: .* greater than or equal to 1"),
        ("cluster.groups=[{name: a}, {name: a}]", "cluster: .*two groups are named a; give each its own name"),
        ("cluster.groups=[{name: a, min: 3, max: 2}]", "cluster.groups.0: .*min 3 is above max 2: raise max"),
        ("cluster.groups=[{name: a, cpu: 2}]", "cluster.groups.0.cpu: .*"),
        ("cluster.groups=[{name: a", "cluster.groups: input should be a valid list"),
        ("cluster.groups=[{name: a, name: b}]", "cluster.groups: name is given twice, in lines 1 and 1"),
        ("generate.vllm={seed: 1, seed: 2}", "generate.vllm: not valid YAML: seed is given twice"),
    ],
)
def test_a_value_that_wont_do_is_refused_with_its_key(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        load_settings(None, [assignment])


def test_groups_of_nodes_leave_no_room_for_a_second_description() -> None:
    with pytest.raises(SettingsError, match=r"^cluster: .*groups and cpus and gpu_gb mean the same; keep only"):
        load_settings(None, ["cluster.groups=[{name: a}]", "cluster.cpus=2", "cluster.gpu_gb=24"])


def test_lists_are_written_as_yaml_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGJOB__CLUSTER__GROUPS", '[{"name": "gpu", "cpus": 8, "gpus": 1, "gpu_gb": 24}]')
    monkeypatch.setenv("RAGJOB__GENERATE__POOL__GROUP", "gpu")
    settings = load_settings(None, ["embed.pool.group=[spot, gpu]"])
    assert [(group.name, group.cpus, group.max) for group in settings.cluster.groups] == [("gpu", 8, 1)]
    assert (settings.embed.pool.groups, settings.generate.pool.groups) == (["spot", "gpu"], ["gpu"])
    assert settings.cluster.gpu_memory_gb(settings.generate.pool) == 24
    assert load_settings(None, ["cluster.groups=[{name: cpu, cpus: 2}]"]).cluster.groups[0].cpus == 2


def test_the_smallest_gpu_of_the_groups_that_a_pool_names_counts() -> None:
    groups = "cluster.groups=[{name: a, gpus: 1, gpu_gb: 24}, {name: b, gpus: 1, gpu_gb: 80}, {name: c, gpus: 1}]"

    def memory_of(group: str) -> float | None:
        settings = load_settings(None, [groups, f"embed.pool.group={group}"])
        return settings.cluster.gpu_memory_gb(settings.embed.pool)

    assert [memory_of(group) for group in ("[a, b]", "b", "[b, c]", "null")] == [24, 80, None, None]


def test_braces_that_stand_for_themselves_are_written_twice() -> None:
    template = 'Answer as {{"answer": ...}}\n{context}\n{prompt}'
    assert load_settings(None, [f"augment.template={template}"]).augment.template == template


def test_engine_arguments_have_the_types_that_their_text_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGJOB__GENERATE__VLLM__ENFORCE_EAGER", "true")
    assigned = ["generate.vllm.max_num_seqs=8", "generate.vllm.quantization=fp8"]
    assert load_settings(None, assigned).generate.vllm == {
        "enforce_eager": True,
        "max_num_seqs": 8,
        "quantization": "fp8",
    }


def test_engine_arguments_can_be_given_together() -> None:
    assert load_settings(None, ["generate.vllm={max_num_seqs: 8}"]).generate.vllm == {"max_num_seqs": 8}
    with pytest.raises(SettingsError, match=r"^generate.vllm: not valid YAML: "):
        load_settings(None, ["generate.vllm={max_num_seqs: 8"])


def test_chroma_is_one_server() -> None:
    with pytest.raises(SettingsError, match=r"^chroma: url and path are both set, .* leave one out"):
        load_settings(None, ["chroma.url=http://chroma:8000", "chroma.path=data"])


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000", "https://s3.example.org/", "http://[::1]:9000", "https://example.org/storage/s3"]
)
def test_an_s3_servers_address_is_taken(url: str) -> None:
    assert load_settings(None, [f"s3.endpoint_url={url}"]).s3.endpoint_url == url


@pytest.mark.parametrize(
    "url", ["https://me:s3cr3t@example.org", "s3cr3t.org", "ftp://s3cr3t", "http://a b/s3cr3t", ""]
)
def test_an_s3_servers_address_that_wont_do_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^s3.endpoint_url: must be http://HOST:PORT or https://HOST, without"
    ) as told:
        load_settings(None, [f"s3.endpoint_url={url}"])
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["me:s3cr3t@chroma:8000", "http://chroma:80000", "http://chroma:s3cr3t", "http://a_b:1"]
)
def test_a_chroma_address_that_wont_do_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^chroma.url: must be http://HOST:PORT or https://HOST") as told:
        load_settings(None, [f"chroma.url={url}"])
    assert "s3cr3t" not in str(told.value)


SECRET = "http://me:s3cr3t@h"


@pytest.mark.parametrize(
    "key", ["chroma", "chunk.size", "generate.engine", "run_id", "generate.openai", "cluster.groups"]
)
@pytest.mark.parametrize("value", [SECRET, "s3cr3t", "[s3cr3t", "{s3cr3t: ", "*s3cr3t"])
def test_a_value_that_was_refused_is_not_shown(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{key}: ") as told:
        load_settings(None, [f"{key}={value}/"])
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize(
    "assignments", [[SECRET], [f"chroma={SECRET}", "chroma.url=x"], [f"{SECRET}=1"], [f"generate.vllm=[{SECRET}"]]
)
def test_an_assignment_that_was_refused_is_not_shown(assignments: list[str]) -> None:
    with pytest.raises(SettingsError) as told:
        load_settings(None, assignments)
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "chroma: {url: http://me:s3cr3t@h",
        "s3cr3t: a: b",
        "chroma: 's3cr3t",
        "chroma: *s3cr3t",
        "chroma: !s3cr3t a",
        "chroma: !!int s3cr3t",
        "a: &s3cr3t 1\nb: &s3cr3t 2",
        "chroma: s3cr3t\x00",
        "chroma: http://me:s3cr3t@h",
        "chroma: [s3cr3t]",
        "chunk: {size: s3cr3t}",
    ],
)
def test_a_file_that_was_refused_is_not_shown(load: Load, text: str) -> None:
    with pytest.raises(SettingsError) as told:
        load(text)
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("name", ["RAGJOB__CHROMA", "RAGJOB__CHUNK__SIZE", "RAGJOB__CLUSTER__GROUPS"])
def test_a_variable_that_was_refused_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(SettingsError) as told:
        load_settings(None, [])
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("sse", ["null", "AES256"])
def test_a_kms_key_goes_with_kms(sse: str) -> None:
    with pytest.raises(SettingsError, match=r"^s3: kms_key_id is set but sse isn't aws:kms; set sse to aws:kms"):
        load_settings(None, [f"s3.sse={sse}", "s3.kms_key_id=alias/ours"])


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"chunk.size: .*; embed.dtype: "):
        load_settings(None, ["chunk.size=x", "embed.dtype=x"])


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["chunk.size"], "--set: an assignment has no `=`; write it as a.b=value"),
        (["chunk=4", "chunk.size=8"], "--set chunk.size: another --set gives chunk a value; keep one of the two"),
    ],
)
def test_an_assignment_that_isnt_one_is_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}$"):
        load_settings(None, assignments)


def test_a_variable_that_sets_a_whole_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGJOB__CHUNK", "size")
    with pytest.raises(SettingsError, match=r'^environment: .*"chunk".*; set its keys one by one'):
        load_settings(None, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"chunk: [1", "not YAML: while parsing a flow sequence"),
        (b"chunk: !!python/name:os.system", "not YAML: could not determine a constructor"),
        (b"\xff\xff", "can't be read .*utf-8.*; `ragjob init` writes one"),
        (b"- chunk", "must contain keys and values; `ragjob init` writes an example"),
        (b"1: 2", "must contain keys and values; `ragjob init` writes an example"),
    ],
)
def test_a_file_that_isnt_settings_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{file}: {message}"):
        load_settings(file, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "chunk:\n  size: 9\nembed:\n  dtype: auto\nchunk:\n  overlap: 5\n",
            "chunk is given twice, in lines 1 and 5",
        ),
        ("embed:\n  pool:\n    max: 2\n    min: 1\n    max: 3\n", "max is given twice, in lines 3 and 5"),
        ("run_id: a\n# again\n'run_id': b\n", "run_id is given twice, in lines 1 and 3"),
        ("cluster:\n  groups:\n  - {cpus: 1}\n  - {cpus: 1,\n     cpus: 2}\n", "cpus is given twice, in lines 4 and 5"),
    ],
    ids=["section", "deeper", "quoted", "in a list"],
)
def test_a_key_given_twice_in_the_file_is_refused_with_both_lines(load: Load, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"job.yaml: {message}; keep one of them$"):
        load(text)


def test_equal_keys_of_different_sections_and_merged_ones_are_no_repetition(load: Load) -> None:
    text = "embed:\n  pool: &pool {min: 1, max: 2}\nretrieve:\n  pool: {<<: *pool, max: 3}\nchunk: {size: 100}\n"
    settings = load(text)
    assert (settings.embed.pool.max, settings.retrieve.pool.max, settings.chunk.size) == (2, 3, 100)


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_file_that_cant_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{tmp_path / name}: can't be read .*; `ragjob init` writes one"):
        load_settings(tmp_path / name, [])


def test_a_required_key_that_isnt_set_is_named_with_the_command() -> None:
    settings = load_settings(None, ["corpus.uri=books"])
    with pytest.raises(SettingsError, match=r"^index.uri: required by `run`; set it in job.yaml or with --set index"):
        require(settings, "run", "corpus.uri", "index.uri", "output.uri")


def test_required_keys_that_are_set_will_do() -> None:
    settings = load_settings(None, ["corpus.uri=books", "index.uri=index"])
    assert require(settings, "index", "corpus.uri", "index.uri") is None


def test_the_json_schema_has_every_key() -> None:
    schema = json.dumps(JobSettings.model_json_schema())
    leaves = {key.split(".")[-1] for key in keys_of()}
    assert leaves == {leaf for leaf in leaves if f'"{leaf}": {{' in schema}


def test_keys_are_listed_with_their_sections() -> None:
    assert set(DESIGNED) < set(keys_of())


@pytest.mark.parametrize("key", ["corpus.uri", "prompts.uri", "index.uri", "output.uri", "chroma.path", "models.cache"])
def test_white_space_at_the_ends_of_a_uri_is_no_part_of_it(key: str) -> None:
    settings = load_settings(None, [f"{key}= s3://bucket/a b \r\n"])
    assert attrgetter(key)(settings) == "s3://bucket/a b"
