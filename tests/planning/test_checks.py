"""What the checks of a plan say, warn of and refuse: no Ray, no Chroma, no weights loaded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ragjob.commands.index import Index
from ragjob.commands.registry import COMMANDS
from ragjob.commands.run import Run
from ragjob.errors import DataError, DependencyError, RagjobError, SettingsError
from ragjob.planning.checks import Warned
from tests.conftest import files_below
from tests.planning.jobs import Settings, check_lines, commit, failed, ids


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
