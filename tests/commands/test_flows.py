"""What happens around the two flows: resuming, racing, publishing. The flows run in this process, without Ray."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.commands import api
from ragjob.config import JobSettings
from ragjob.errors import DataError, DependencyError, Stopped, TooManyFailures
from ragjob.ledger import schema
from ragjob.ledger.index import IndexLedger
from ragjob.ledger.run import claimed_versions
from ragjob.models.capacity import Resources
from ragjob.planning.checks import Plan, plan_answer
from ragjob.planning.identity import AnswerTask, CommittedIndex
from ragjob.runtime.flow import Step
from ragjob.stages.columns import Stage, check_columns, fits
from ragjob.stages.cost import Cost
from ragjob.stages.rows import count_errors
from tests.conftest import files_below

pytestmark = pytest.mark.services

DOCUMENTS = {
    "depot.md": "The depot at Harrow Lane holds forty cars.",
    "fares.md": "A ticket to the harbour costs two pence.",
}
QUESTIONS = [f"What does ticket {number} cost?" for number in range(8)]
WITH_BLANKS = [QUESTIONS[0], " ", QUESTIONS[1], "", *QUESTIONS[2:6]]
BLANKS = [1, 3]
Execute = Callable[..., list[Cost]]


def here(blocks: list[pa.Table], steps: list[Step], *_: object) -> list[Cost]:
    """Take the blocks through all stages, here."""
    stages = [stage for step in steps for stage in step.make()]
    for rows in blocks:
        for stage in stages:
            rows = stage(rows)
    return []


def answering(blocks: list[pa.Table], steps: list[Step], *_: object) -> list[Cost]:
    """Read the prompts and stage them with nothing for an answer: no model, no search."""
    (read,), (write,) = steps[0].make(), steps[-1].make()
    count = failed = 0
    for unit in blocks:
        rows = read(unit)
        for field in [*schema.RETRIEVED, *schema.GENERATED, *schema.CITED]:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        count, failed = count + rows.num_rows, failed + count_errors(write(rows))
    return [Cost("write", count, failed, 0.5)]


def refusing(*_: object) -> list[Cost]:
    raise AssertionError("there was nothing to compute")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Spy:
    """Does as `answering` does, and knows the positions that were to be answered."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    def __call__(self, blocks: list[pa.Table], *more: Any) -> list[Cost]:
        rows = [row for unit in blocks for row in unit.to_pylist()]
        self.positions += [row["position"] + at for row in rows for at in range(row["rows"])]
        return answering(blocks, *more)


def stage_then(ending: BaseException, execute: Execute = answering) -> Execute:
    """Stage all, then end as told."""

    def staging(*work: Any) -> list[Cost]:
        execute(*work)
        raise ending

    return staging


def compute_by(patch: pytest.MonkeyPatch, execute: Execute) -> None:
    """Compute flows by another function, without Ray."""
    patch.setattr("ragjob.runtime.cluster.running", lambda size: nullcontext(lambda: None))
    for module in ("indexing", "sentences", "answering"):
        patch.setattr(f"ragjob.commands.{module}.execute", execute)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Execute], None]:
    """Compute flows by another function from now on."""
    return partial(compute_by, monkeypatch)


@pytest.fixture(scope="module")
def chroma(shared_chroma: str) -> str:
    return shared_chroma


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    return folder


def of_index(corpus: Path, folder: Path, **more: dict[str, Any]) -> JobSettings:
    uris = {"corpus": {"uri": str(corpus)}, "index": {"uri": str(folder / "index")}}
    fixed = {"cluster": {"cpus": 2, "gpus": 0, "nodes": 1}, "embed": {"dtype": "float32"}}
    return JobSettings(**uris | fixed | more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, corpus: Path, chroma: str) -> JobSettings:
    """An index that is made, and loaded into a server."""
    settings = of_index(corpus, tmp_path_factory.mktemp("made"), chroma={"url": chroma})
    with pytest.MonkeyPatch.context() as patch:
        compute_by(patch, here)
        api.index(settings)
    return settings


@pytest.fixture
def asked(made: JobSettings, tmp_path: Path) -> Callable[..., JobSettings]:
    """Settings to answer prompts from the index, in parts of three."""
    for name, prompts in {"fine": QUESTIONS, "blanks": WITH_BLANKS}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))

    def ask(name: str = "fine", **more: Any) -> JobSettings:
        uris = {"prompts": {"uri": str(tmp_path / f"{name}.jsonl")}, "output": {"uri": str(tmp_path / "out")}}
        return JobSettings(**made.model_dump() | {"commit_rows": 3} | uris | more)

    return ask


Asked = Callable[..., JobSettings]
Use = Callable[[Execute], None]


def events(folder: Path) -> list[list[dict[str, Any]]]:
    """The log of each attempt at the one run below `folder`, in order of its first event."""
    logs = [file.read_text().splitlines() for file in folder.glob("*/_log/*.jsonl")]
    return sorted(([json.loads(line) for line in log] for log in logs), key=lambda log: log[0]["time"])


# The columns that stages need and add


def as_stated(blocks: list[pa.Table], steps: list[Step], *_: object) -> list[Cost]:
    """Take the blocks through all stages; a stage must do with what it states that it needs, and add what it states."""
    check_columns([stage for step in steps for stage in step.stages], blocks[0].schema)
    stages = [stage for step in steps for stage in step.make()]
    assert [type(stage) for stage in stages] == [stage for step in steps for stage in step.stages]
    for rows in blocks:
        for stage in stages:
            given, rows = rows, stage(rows)
            assert_as_stated(stage, given, rows)
            alone = stage(given.select(stage.NEEDS.names)).select(stage.ADDS.names)
            assert alone.equals(rows.select(stage.ADDS.names)), f"{stage.NAME} needs more"
    return []


def assert_as_stated(stage: Stage, given: pa.Table, rows: pa.Table) -> None:
    assert set(rows.column_names) == (set(given.column_names) - stage.DROPS) | set(stage.ADDS.names), stage.NAME
    assert all(fits(given.schema.field(field.name).type, field.type) for field in stage.NEEDS), stage.NAME
    assert all(fits(rows.schema.field(field.name).type, field.type) for field in stage.ADDS), stage.NAME


def test_each_stage_of_index_needs_and_adds_the_columns_that_it_states(use: Use, corpus: Path, tmp_path: Path) -> None:
    use(as_stated)
    assert api.index(of_index(corpus, tmp_path)).rows == 2


def test_each_stage_of_answer_needs_and_adds_the_columns_that_it_states(use: Use, asked: Asked) -> None:
    use(as_stated)
    assert api.answer(asked()).rows == 8


# Index


def test_an_index_made_again_computes_nothing(use: Use, corpus: Path, tmp_path: Path) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    first = api.index(settings)
    use(refusing)
    again = api.index(settings)
    assert (first.rows, first.already_done, again.rows, again.already_done) == (2, False, 2, True)


def test_an_index_whose_parts_are_removed_meanwhile_isnt_committed(use: Use, corpus: Path, tmp_path: Path) -> None:
    def losing(*work: Any) -> list[Cost]:
        here(*work)
        (tmp_path / "index").rename(tmp_path / "gone")
        return []

    use(losing)
    with pytest.raises(
        DependencyError, match=r"^index.uri: the parts of 2 documents were removed by another process; run the job"
    ):
        api.index(of_index(corpus, tmp_path))
    use(here)
    assert api.index(of_index(corpus, tmp_path)).rows == 2


def test_an_index_that_is_being_made_shows_it(use: Use, corpus: Path, tmp_path: Path) -> None:
    use(stage_then(Stopped("stopped"), here))
    with pytest.raises(Stopped):
        api.index(of_index(corpus, tmp_path))
    (shown,) = (tmp_path / "index").glob("segments/*/_taken-up")
    before = shown.stat().st_mtime_ns
    with pytest.raises(Stopped):
        api.index(of_index(corpus, tmp_path))
    assert shown.stat().st_mtime_ns > before


def test_an_index_made_without_a_server_is_loaded_when_one_is_named(
    use: Use, corpus: Path, tmp_path: Path, chroma: str
) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    api.index(settings)
    use(refusing)
    place = {"uri": settings.index.uri, "collection": "another"}
    report = api.index(JobSettings(**settings.model_dump() | {"index": place, "chroma": {"url": chroma}}))
    assert ([cost.stage for cost in report.costs], report.already_done) == (["load"], False)


def test_a_corpus_of_blank_texts_is_a_data_error(use: Use, tmp_path: Path) -> None:
    (tmp_path / "blank.csv").write_text('text\n" "\n"  "\n')
    use(here)
    with pytest.raises(
        DataError, match=r"^corpus.uri: .*blank.csv has no text to index; name files that contain text$"
    ):
        api.index(of_index(tmp_path / "blank.csv", tmp_path))


def test_too_many_documents_that_fail_leave_no_version(use: Use, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text('{"text": "The depot holds forty cars."}\n{"text": null}\n')
    settings = of_index(tmp_path / "some.jsonl", tmp_path)
    use(here)
    with pytest.raises(
        TooManyFailures,
        match=r"^errors.max_rate: 50.0% of 2 documents failed, more than 10.0%; .* or raise the rate; "
        r"of the errors in \S+/index/segments/\w+/_failed-\*.parquet, the first is some.jsonl#1: text is null$",
    ):
        api.index(settings)
    assert not list(tmp_path.glob("index/versions/*/manifest.json"))


def test_an_index_that_another_attempt_has_committed_meanwhile_is_fine(use: Use, corpus: Path, tmp_path: Path) -> None:
    settings = of_index(corpus, tmp_path)

    def overtaken(*_: object) -> list[Cost]:
        use(here)
        api.index(settings)
        raise DataError("part-1.parquet: no such file")

    use(overtaken)
    assert api.index(settings).rows == 2


def test_an_index_that_fails_alone_fails(use: Use, corpus: Path, tmp_path: Path) -> None:
    use(stage_then(DependencyError("Ray: gone"), here))
    with pytest.raises(DependencyError, match=r"^Ray: gone$"):
        api.index(of_index(corpus, tmp_path))


def test_a_kill_after_the_manifest_is_settled_by_the_next_attempt(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    with monkeypatch.context() as kill:
        kill.setattr("ragjob.ledger.index.IndexLedger.sweep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            api.index(settings)
    killed = {name.split("/")[-1] for name in files_below(tmp_path / "index")}
    api.index(settings)
    settled = {name.split("/")[-1] for name in files_below(tmp_path / "index")}
    assert {"_dtype", "_taken-up", "manifest.json"} < killed
    staged = {name for name in killed if name.startswith("sentences-")}
    joined = {name for name in settled if name.startswith(("lexical-", "sentences-", "spans-"))}
    assert (len(staged), len(joined)) == (1, 4)
    assert settled == killed - {"_dtype", "_taken-up", *staged} | {"current.json"} | joined


def searched_files(folder: Path) -> list[str]:
    """What an index has beside its version."""
    names = [name.split("/")[-1] for name in files_below(folder / "index" / "segments")]
    return [name for name in names if name.startswith(("lexical-", "sentences-", "spans-"))]


SENTENCES_KILLED = [
    "ragjob.ledger.sentences.SentenceLedger.join",
    "ragjob.ledger.sentences.put",
    "ragjob.ledger.sentences.SentenceLedger._delete",
]


@pytest.mark.parametrize("place", SENTENCES_KILLED)
def test_a_kill_while_sentences_are_joined_is_followed_by_a_rerun_that_embeds_nothing(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    settings = of_index(corpus, tmp_path)
    use(here)
    with monkeypatch.context() as kill:
        kill.setattr(place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            api.index(settings)
    use(refusing)
    api.index(settings)
    assert len(searched_files(tmp_path)) == 4
    assert api.index(settings).already_done


def test_sentences_that_are_wanted_later_are_embedded_then_and_no_chunk_is(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(here)
    api.index(of_index(corpus, tmp_path, retrieve={"sentences": False}))
    assert len(searched_files(tmp_path)) == 1
    use(stage_then(KeyboardInterrupt(), here))
    with pytest.raises(KeyboardInterrupt):
        api.index(of_index(corpus, tmp_path))
    assert len(searched_files(tmp_path)) == 2  # what is staged
    use(refusing)
    api.index(of_index(corpus, tmp_path))
    assert len(searched_files(tmp_path)) == 4


def test_sentences_that_fail_within_the_rate_leave_passages_that_are_found_as_a_whole(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(here)
    monkeypatch.setattr("ragjob.stages.sentences.quotable", lambda text: [][1])
    assert api.index(of_index(corpus, tmp_path, errors={"max_rate": 1.0})).errors == 0
    assert len(searched_files(tmp_path)) == 4


def test_sentences_that_fail_too_often_end_the_job_and_are_tried_again_by_the_next_attempt(
    use: Use, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(here)
    with monkeypatch.context() as fail:
        fail.setattr("ragjob.stages.sentences.quotable", lambda text: [][1])
        with pytest.raises(TooManyFailures, match=r"^errors.max_rate: the sentences of 2 of 2 passages couldn't be"):
            api.index(of_index(corpus, tmp_path))
    monkeypatch.setattr("ragjob.commands.indexing.execute", refusing)
    api.index(of_index(corpus, tmp_path))
    assert len(searched_files(tmp_path)) == 4


# Answer


def test_an_answered_run_answered_again_computes_nothing(use: Use, asked: Asked) -> None:
    use(answering)
    first = api.answer(asked())
    use(refusing)
    again = api.answer(asked())
    assert (first.rows, first.already_done, again.rows, again.already_done) == (8, False, 8, True)


def test_answers_staged_by_a_stopped_attempt_arent_computed_again(use: Use, asked: Asked) -> None:
    use(lambda blocks, *more: stage_then(KeyboardInterrupt())(blocks[:2], *more))
    with pytest.raises(KeyboardInterrupt):
        api.answer(asked())
    spy = Spy()
    use(spy)
    report = api.answer(asked())
    assert (spy.positions, report.kept, report.rows) == ([6, 7], 6, 8)


def test_a_run_with_all_answers_staged_is_published_without_computing(use: Use, asked: Asked) -> None:
    use(stage_then(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        api.answer(asked())
    use(refusing)
    assert pq.read_table(api.answer(asked()).answers).num_rows == 8


def test_too_many_failed_prompts_publish_nothing(use: Use, asked: Asked, tmp_path: Path) -> None:
    use(answering)
    with pytest.raises(
        TooManyFailures,
        match=r"^errors.max_rate: 2 of 8 prompts failed, more than 10.0%; correct or retry them, or raise the rate; "
        r"of the errors in \S+/out/_staging/\w+/part-\*.parquet, the first is \S+: prompt is blank$",
    ):
        api.answer(asked("blanks"))
    assert not list(tmp_path.glob("out/*/answers.parquet"))


def test_failed_prompts_alone_are_tried_again_under_the_same_rate(use: Use, asked: Asked) -> None:
    spy = Spy()
    use(answering)
    with pytest.raises(TooManyFailures):
        api.answer(asked("blanks"))
    use(spy)
    with pytest.raises(TooManyFailures, match="2 of 8 prompts failed"):
        api.answer(asked("blanks"))
    assert spy.positions == BLANKS


def test_a_higher_rate_publishes_without_computing(use: Use, asked: Asked) -> None:
    use(answering)
    with pytest.raises(TooManyFailures):
        api.answer(asked("blanks"))
    use(refusing)
    report = api.answer(asked("blanks", errors={"max_rate": 0.25}))
    rows = pq.read_table(report.answers)
    assert [at for at, error in enumerate(rows["error"].to_pylist()) if error] == BLANKS
    assert (report.rows, report.errors, report.kept) == (8, 2, 6)
    assert [error for _, error in report.failures] == ["prompt is blank"] * 2


def test_a_run_that_fails_alone_fails(use: Use, asked: Asked) -> None:
    use(stage_then(DependencyError("Ray: gone")))
    with pytest.raises(DependencyError, match=r"^Ray: gone$"):
        api.answer(asked())


@pytest.mark.parametrize("ending", [DependencyError("Ray: gone"), DataError("part-1.parquet: no such file")])
def test_a_run_that_another_attempt_publishes_meanwhile_ends_well(
    use: Use, asked: Asked, tmp_path: Path, ending: Exception
) -> None:
    def overtaken(*_: object) -> list[Cost]:
        use(answering)
        api.answer(asked())
        raise ending

    use(overtaken)
    report = api.answer(asked())
    assert (report.rows, pq.read_table(report.answers).num_rows) == (8, 8)
    assert not (tmp_path / "out" / "_staging").exists()


def test_a_slow_attempt_whose_parts_were_swept_by_a_faster_one_ends_well(
    use: Use, asked: Asked, tmp_path: Path
) -> None:
    def slow(blocks: list[pa.Table], *more: Any) -> list[Cost]:
        answering(blocks[:1], *more)
        use(answering)
        api.answer(asked())
        return answering(blocks[1:], *more)

    use(slow)
    report = api.answer(asked())
    assert (report.rows, report.errors) == (8, 0)
    assert not (tmp_path / "out" / "_staging").exists()


def test_other_settings_under_a_run_id_that_is_taken_compute_nothing(use: Use, asked: Asked) -> None:
    use(stage_then(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        api.answer(asked(run_id="mine"))
    use(refusing)
    with pytest.raises(DataError, match=r"^run_id: mine was started with other settings or inputs; choose"):
        api.answer(asked(run_id="mine", retrieve={"top_k": 2}))


def test_an_answer_leaves_the_current_version_as_it_is(use: Use, asked: Asked, made: JobSettings) -> None:
    current = Path(str(made.index.uri)) / "current.json"
    before = current.stat().st_mtime_ns
    use(answering)
    api.answer(asked())
    assert current.stat().st_mtime_ns == before


def test_each_attempts_log_is_kept_with_the_run(use: Use, asked: Asked, tmp_path: Path) -> None:
    use(stage_then(DependencyError("Ray: gone")))
    with pytest.raises(DependencyError):
        api.answer(asked())
    (failed,) = events(tmp_path / "out")
    assert [(event["event"], event.get("exit_code")) for event in failed] == [("started", None), ("Ray: gone", 3)]


def test_the_log_of_a_run_tells_what_each_stage_did(use: Use, asked: Asked, tmp_path: Path) -> None:
    use(answering)
    report = api.answer(asked())
    (done,) = events(tmp_path / "out")
    assert [event["event"] for event in done] == ["started", "stage", "done"]
    assert (done[0]["run_id"], done[1]["stage"], done[1]["seconds"]) == (report.run_id, "write", 0.5)
    assert (done[2]["rows"], done[2]["errors"], done[2]["kept"]) == (8, 0, 0)


def test_an_index_version_removed_before_it_was_claimed_ends_with_one_line(
    use: Use, asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = asked()
    index = shutil.copytree(str(settings.index.uri), tmp_path / "copy")
    settings = asked(index={"uri": str(index)})
    (version,) = (index / "versions").iterdir()
    withdrawn = IndexLedger(str(index), version.name).withdraw
    use(answering)

    def removing(index: CommittedIndex, task: AnswerTask, size: Resources) -> Plan:
        assert withdrawn(lambda: False)
        return plan_answer(index, task, size)

    monkeypatch.setattr("ragjob.planning.checks.plan_answer", removing)
    with pytest.raises(
        DataError, match=rf"^index.uri: version {version.name} was removed after the job began; run the job"
    ):
        api.answer(settings)
    assert claimed_versions(str(settings.output.uri)) == {version.name}
