import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job import ledger, schema, storage
from job.errors import DataError, DependencyError
from job.ledger import IndexLedger, IndexManifest, RunLedger, RunManifest, current_version, set_current

ABOUT: dict[str, Any] = {"fingerprint": "f", "settings": {"chunk.size": 200}, "embed_model": "minilm@1"}
FINE = [None, None]  # the errors of a document's chunks
HALF = [None, "too long"]
BAD = ["blank"]
COLUMNS = schema.answers(pa.schema([("topic", pa.string())]))
TOTAL = 20


def chunks(documents: dict[str, list[str | None]]) -> pa.Table:
    """Chunks of these documents, embedded but for those with an error."""
    rows = [(name, index, error) for name, errors in documents.items() for index, error in enumerate(errors)]
    columns = [
        [f"{name}{index}" for name, index, _ in rows],
        [name for name, _, _ in rows],
        [f"{name}.md" for name, _, _ in rows],
        [index for _, index, _ in rows],
        [f"text {index} of {name}" for name, index, _ in rows],
        [error for _, _, error in rows],
        [None if error else [ord(name), index] for name, index, error in rows],
    ]
    return pa.table(columns, pa.schema([*schema.CHUNKS, *schema.embedded(2)]))


def answers(*positions: int, attempt: str = "first", error: str | None = None) -> pa.Table:
    """Rows of these positions, as one attempt would stage them."""
    columns = dict.fromkeys(COLUMNS.names, [None] * len(positions)) | {
        schema.POSITION: positions,
        "prompt_id": [f"prompt {position}" for position in positions],
        "topic": [f"topic {position}" for position in positions],
        "answer": [None if error else f"{position} by {attempt}" for position in positions],
        "prompt_tokens": [None if error else 5] * len(positions),
        "error": [error] * len(positions),
    }
    return pa.table(columns, pa.schema([(schema.POSITION, pa.int64()), *COLUMNS]))


@pytest.fixture
def index(tmp_path: Path) -> IndexLedger:
    return IndexLedger(str(tmp_path), "v1")


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of the version that `index` writes."""
    return tmp_path / "versions" / "v1"


@pytest.fixture
def run(tmp_path: Path) -> RunLedger:
    return RunLedger(str(tmp_path), "r1", "identity")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing goes through seven prompts at a time."""
    monkeypatch.setattr(ledger, "WINDOW", 7)


def committed_ids(index: IndexLedger) -> list[str]:
    manifest = index.manifest()
    assert manifest
    return sorted(name for part in index.batches(manifest) for name in part["chunk_id"].to_pylist())


def published(run: RunLedger) -> list[tuple[str, str | None, str | None]]:
    rows = pq.read_table(run.answers)
    return list(zip(*(rows[name].to_pylist() for name in ("prompt_id", "answer", "error")), strict=True))


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Index versions


def test_documents_in_a_part_are_done(index: IndexLedger) -> None:
    index.write(chunks({"a": FINE, "b": FINE}))
    index.write(chunks({"c": FINE}))
    assert index.done() == {"a", "b", "c"}


def test_documents_with_a_failed_chunk_are_tried_again(index: IndexLedger) -> None:
    index.write(chunks({"a": FINE, "b": HALF, "c": BAD}))
    assert index.done() == {"a"}


def test_the_same_block_staged_twice_is_one_part(index: IndexLedger, version: Path) -> None:
    index.write(chunks({"a": FINE, "b": FINE}))
    index.write(chunks({"a": FINE, "b": FINE}))
    assert len(below(version)) == 1


def test_a_version_is_committed_with_what_it_holds(index: IndexLedger) -> None:
    index.settle_dtype(lambda: "bfloat16")
    index.write(chunks({"a": FINE, "b": HALF, "c": BAD}))
    manifest = index.commit(index.survey(), **ABOUT)
    assert manifest == index.manifest()
    assert replace(manifest, parts=[]) == IndexManifest(
        version="v1", dtype="bfloat16", dimension=2, metric="cosine", documents=3, failed=2, chunks=3, parts=[], **ABOUT
    )
    assert committed_ids(index) == ["a0", "a1", "b0"]


def test_committed_parts_have_the_designs_columns(index: IndexLedger) -> None:
    index.write(chunks({"a": HALF, "b": FINE}))
    manifest = index.commit(index.survey(), **ABOUT)
    assert [part.schema for part in index.batches(manifest)] == [schema.chunk_parts(2)] * 2
    assert sum(part["rows"] for part in manifest.parts) == manifest.chunks


def test_documents_are_listed_with_their_chunks_and_first_error(index: IndexLedger, version: Path) -> None:
    index.write(chunks({"a": FINE, "b": HALF}))
    index.commit(index.survey(), **ABOUT)
    documents = pq.read_table(version / "documents.parquet")
    assert documents.schema == schema.DOCUMENTS
    assert documents.drop_columns(["digest"]).to_pylist() == [
        {"document_id": "a", "uri": "a.md", "chunk_count": 2, "failed_count": 0, "error": None},
        {"document_id": "b", "uri": "b.md", "chunk_count": 1, "failed_count": 1, "error": "too long"},
    ]
    assert index.errors()["document_id"].to_pylist() == ["b"]


def test_a_version_isnt_there_before_it_is_committed(index: IndexLedger) -> None:
    index.write(chunks({"a": FINE}))
    assert index.manifest() is None


def test_documents_of_attempts_that_overlap_count_once(index: IndexLedger) -> None:
    index.write(chunks({"a": FINE, "b": FINE}))
    index.write(chunks({"c": FINE}))
    index.write(chunks({"b": FINE, "c": FINE, "d": FINE}))
    manifest = index.commit(index.survey(), **ABOUT)
    assert (manifest.documents, manifest.chunks) == (4, 8)
    assert committed_ids(index) == ["a0", "a1", "b0", "b1", "c0", "c1", "d0", "d1"]


@pytest.mark.parametrize("attempts", [[HALF, FINE], [FINE, HALF], [BAD, FINE, HALF]])
def test_a_document_that_failed_in_one_attempt_and_not_in_another_is_fine(
    index: IndexLedger, attempts: list[list[str | None]]
) -> None:
    for errors in attempts:
        index.write(chunks({"a": errors}))
    manifest = index.commit(index.survey(), **ABOUT)
    assert (manifest.documents, manifest.failed, committed_ids(index)) == (1, 0, ["a0", "a1"])


def test_a_commit_leaves_only_what_it_lists(index: IndexLedger, version: Path) -> None:
    index.settle_dtype(lambda: "float32")
    index.write(chunks({"a": FINE, "b": HALF}))
    index.write(chunks({"a": FINE, "c": FINE}))
    (version / "_part-torn.parquet.x7").write_bytes(b"left by a killed writer")
    manifest = index.commit(index.survey(), **ABOUT)
    listed = [part["name"] for part in manifest.parts]
    assert below(version) == sorted([*listed, "documents.parquet", "manifest.json"])


def interrupt(uri: str, content: bytes) -> None:
    raise KeyboardInterrupt


def test_a_commit_that_was_killed_before_its_manifest_is_made_again_the_same(
    index: IndexLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = IndexLedger(str(tmp_path / "undisturbed"), "v1")
    for each in (index, twin):
        each.write(chunks({"a": FINE, "b": HALF}))
        each.write(chunks({"a": FINE, "c": FINE}))
    monkeypatch.setattr(storage, "put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.commit(index.survey(), **ABOUT)
    monkeypatch.undo()
    assert index.manifest() is None
    assert index.commit(index.survey(), **ABOUT) == twin.commit(twin.survey(), **ABOUT)


def test_who_commits_second_leaves_the_first_ones_version_as_it_is(index: IndexLedger, version: Path) -> None:
    index.write(chunks({"a": FINE, "b": HALF}))
    first = index.commit(index.survey(), **ABOUT)
    before = {name: (version / name).read_bytes() for name in below(version)}
    index.write(chunks({"b": FINE, "c": FINE}))
    assert index.commit(index.survey(), **ABOUT) == first
    assert {name: (version / name).read_bytes() for name in below(version)} == before


def test_a_late_writers_part_isnt_read(index: IndexLedger) -> None:
    index.write(chunks({"a": FINE}))
    index.commit(index.survey(), **ABOUT)
    index.write(chunks({"a": FINE, "b": FINE}))
    assert committed_ids(index) == ["a0", "a1"]


def test_a_version_without_a_chunk_is_refused(index: IndexLedger) -> None:
    index.write(chunks({"a": BAD, "b": BAD}))
    with pytest.raises(DataError, match=r"^corpus.uri: not one passage of it could be embedded"):
        index.commit(index.survey(), **ABOUT)


def test_the_first_dtype_that_is_measured_holds(index: IndexLedger) -> None:
    assert index.settle_dtype(lambda: "bfloat16") == "bfloat16"
    assert index.settle_dtype(lambda: "float32") == "bfloat16"


def test_workers_that_measure_at_once_agree_on_a_dtype(index: IndexLedger) -> None:
    with ThreadPoolExecutor(8) as pool:
        settled = list(pool.map(lambda number: index.settle_dtype(lambda: f"float{number}"), range(8)))
    assert len(set(settled)) == 1


def test_a_part_that_is_cut_short_is_named(index: IndexLedger, version: Path) -> None:
    index.write(chunks({"a": FINE}))
    part = version / below(version)[0]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"^{part}: not a whole Parquet file; remove it and run again$"):
        index.done()


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "v1"}'])
def test_a_manifest_that_isnt_one_is_named(index: IndexLedger, version: Path, content: str) -> None:
    storage.put(str(version / "manifest.json"), content.encode())
    with pytest.raises(DataError, match=r"^index.uri: .*/manifest.json isn't a manifest of this program"):
        index.manifest()


def test_the_current_version_is_the_one_that_was_set_last(tmp_path: Path) -> None:
    assert current_version(str(tmp_path)) is None
    set_current(str(tmp_path), "v1")
    set_current(str(tmp_path), "v2")
    assert current_version(str(tmp_path)) == "v2"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_current_file_that_names_no_version_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "current.json").write_text(content)
    with pytest.raises(DataError, match=r"^index.uri: .*/current.json names no version: run `ragjob index` again"):
        current_version(str(tmp_path))


OUTCOMES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([FINE, HALF, BAD]), min_size=1)


@given(st.lists(OUTCOMES, max_size=6))
def test_whatever_attempts_staged_the_next_one_completes_each_document_once(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[dict[str, list[str | None]]]
) -> None:
    index = IndexLedger(str(tmp_path_factory.mktemp("index")), "v1")
    for documents in attempts:
        index.write(chunks(documents))
    fine = {name for documents in attempts for name, errors in documents.items() if errors == FINE}
    assert index.done() == fine
    index.write(chunks(dict.fromkeys(sorted(set("abcdef") - index.done()), FINE)))
    manifest = index.commit(index.survey(), **ABOUT)
    assert (manifest.documents, manifest.failed) == (6, 0)
    assert committed_ids(index) == [f"{name}{number}" for name in "abcdef" for number in (0, 1)]


# Runs


def test_a_staged_answer_is_done_and_a_staged_error_isnt(run: RunLedger) -> None:
    run.write(answers(0, 3))
    run.write(answers(1, error="out of memory"))
    assert np.flatnonzero(run.answered(5)).tolist() == [0, 3]


def test_answers_and_errors_of_a_block_are_parts_of_their_own(run: RunLedger, tmp_path: Path) -> None:
    run.write(pa.concat_tables([answers(0, 12), answers(5, error="blank")]))
    names = below(tmp_path / "_staging" / "r1")
    assert [name.rpartition("-")[0] for name in names] == ["part-000000000-000000012", "part-000000005-000000005"]


def test_a_run_is_one_row_a_prompt_in_the_prompts_order(run: RunLedger, narrow: None) -> None:
    run.write(answers(*range(19, 12, -1)))
    run.write(answers(0, 4, 8, 12))
    run.write(answers(1, 2, 3, 5, 6, 7, 9, 10, 11))
    manifest = run.publish(TOTAL, COLUMNS)
    assert published(run) == [(f"prompt {at}", f"{at} by first", None) for at in range(TOTAL)]
    assert manifest == RunManifest("r1", "identity", rows=20, errors=0, prompt_tokens=100, completion_tokens=0)


def test_a_runs_columns_are_the_designs_and_no_more(run: RunLedger) -> None:
    run.write(answers(0))
    run.publish(1, COLUMNS)
    assert pq.read_table(run.answers).schema.remove_metadata() == COLUMNS


@pytest.mark.parametrize("attempt", ["first", "second", "third", "fourth"])
def test_an_answer_beats_an_error_whichever_was_first(run: RunLedger, attempt: str) -> None:
    run.write(answers(0, error="out of memory"))
    run.write(answers(0, attempt=attempt))
    run.write(answers(0, error="blank"))
    run.publish(1, COLUMNS)
    assert published(run) == [("prompt 0", f"0 by {attempt}", None)]


def test_two_answers_to_a_prompt_are_the_same_one_in_every_merge(tmp_path: Path) -> None:
    runs = [RunLedger(str(tmp_path / name), "r1", "identity") for name in ("one", "other")]
    for run, attempts in zip(runs, (["a", "b", "c"], ["c", "b", "a"]), strict=True):
        for attempt in attempts:
            run.write(answers(0, 1, attempt=attempt))
        run.publish(2, COLUMNS)
    assert published(runs[0]) == published(runs[1])


def test_a_prompt_that_failed_is_a_row_with_its_error(run: RunLedger) -> None:
    run.write(answers(0, 2))
    run.write(answers(1, error="prompt is blank"))
    assert run.publish(3, COLUMNS).errors == 1
    assert published(run)[1] == ("prompt 1", None, "prompt is blank")
    assert run.errors(9) == [("prompt 1", "prompt is blank")]


def test_errors_are_shown_up_to_a_number(run: RunLedger) -> None:
    run.write(answers(*range(5), error="blank"))
    assert len(run.staged_errors(3)) == 3
    run.publish(5, COLUMNS)
    assert run.errors(2) == [("prompt 0", "blank"), ("prompt 1", "blank")]


@pytest.mark.parametrize(
    ("staged", "message"),
    [([0, 1, *range(7, 20)], "5 prompts have no row"), ([*range(7), *range(14, 20)], "no part holds prompts 7 to 13")],
)
def test_a_run_with_a_prompt_missing_isnt_published(
    run: RunLedger, narrow: None, tmp_path: Path, staged: list[int], message: str
) -> None:
    for position in staged:
        run.write(answers(position))
    with pytest.raises(DependencyError, match=f"{message}; run it again$"):
        run.publish(TOTAL, COLUMNS)
    assert below(tmp_path / "r1") == []


def test_a_run_is_published_once_by_whoever_is_first(run: RunLedger, narrow: None, tmp_path: Path) -> None:
    for first in range(0, TOTAL, 2):
        run.write(answers(first, first + 1))

    def finish(_: int) -> RunManifest:
        manifest = RunLedger(str(tmp_path), "r1", "identity").publish(TOTAL, COLUMNS)
        run.sweep()
        return manifest

    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(finish, range(8)))
    assert manifests == [manifests[0]] * 8
    assert below(tmp_path) == ["r1/_manifest.json", "r1/answers.parquet"]


class OvertakenLedger(RunLedger):
    """A run that `twin` publishes and sweeps after its parts were listed and before they are read."""

    twin: RunLedger

    def _parts(self) -> list[str]:
        names = super()._parts()
        self.twin.publish(2, COLUMNS)
        self.twin.sweep()
        return names


def test_a_part_that_is_gone_since_another_attempt_published_is_no_failure(run: RunLedger, tmp_path: Path) -> None:
    run.write(answers(0, 1))
    overtaken = OvertakenLedger(str(tmp_path), "r1", "identity")
    overtaken.twin = run
    assert overtaken.publish(2, COLUMNS) == run.published()
    assert below(tmp_path) == ["r1/_manifest.json", "r1/answers.parquet"]


def test_a_run_is_claimed_again_by_the_same_job(run: RunLedger, tmp_path: Path) -> None:
    run.claim()
    run.claim()
    assert json.loads((tmp_path / "_staging" / "r1" / "identity.json").read_text()) == {"identity": "identity"}


def test_another_job_under_the_same_run_id_is_refused(run: RunLedger, tmp_path: Path) -> None:
    run.claim()
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings or inputs; take another run_id"):
        RunLedger(str(tmp_path), "r1", "other").claim()


@pytest.fixture
def done(run: RunLedger) -> RunLedger:
    """A run of two prompts, published and swept."""
    run.claim()
    run.write(answers(0, 1))
    run.publish(2, COLUMNS)
    run.sweep()
    return run


def test_another_job_under_a_published_run_id_is_refused(done: RunLedger, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings"):
        RunLedger(str(tmp_path), "r1", "other").published()


def test_a_manifest_that_is_missing_is_written_anew(done: RunLedger, tmp_path: Path) -> None:
    manifest = tmp_path / "r1" / "_manifest.json"
    before = manifest.read_bytes()
    manifest.unlink()
    assert done.published() == RunManifest(**json.loads(before))
    assert manifest.read_bytes() == before


def test_another_job_is_refused_also_where_the_manifest_is_missing(done: RunLedger, tmp_path: Path) -> None:
    (tmp_path / "r1" / "_manifest.json").unlink()
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings"):
        RunLedger(str(tmp_path), "r1", "other").published()
    assert below(tmp_path) == ["r1/answers.parquet"]


def test_another_programs_file_is_refused_as_a_run(run: RunLedger) -> None:
    Path(run.answers).parent.mkdir()
    pq.write_table(pa.table({"answer": ["42"]}), run.answers)
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings"):
        run.published()


def test_a_published_run_is_published_again_untouched(done: RunLedger) -> None:
    before = Path(done.answers).stat().st_mtime_ns
    done.write(answers(0, 1, attempt="late"))
    done.publish(2, COLUMNS)
    assert Path(done.answers).stat().st_mtime_ns == before


def test_a_sweep_leaves_the_run_alone(done: RunLedger, tmp_path: Path) -> None:
    (tmp_path / "r1" / "_answers.parquet.x7").write_bytes(b"left by a killed writer")
    done.write(answers(0, attempt="late"))
    done.sweep()
    assert below(tmp_path) == ["r1/_manifest.json", "r1/answers.parquet"]
    assert not (tmp_path / "_staging").exists()


@pytest.fixture
def beside_another(done: RunLedger, tmp_path: Path) -> RunLedger:
    """A published run beside one that is still staging."""
    other = RunLedger(str(tmp_path), "r2", "other")
    other.claim()
    other.write(answers(0, 1, 2))
    return done


@pytest.mark.parametrize("folder", [".", "r1"])
def test_a_plain_reader_of_the_folder_sees_the_answers_alone(
    beside_another: RunLedger, tmp_path: Path, folder: str
) -> None:
    assert pq.read_table(tmp_path / folder)["prompt_id"].to_pylist() == ["prompt 0", "prompt 1"]


def test_a_plain_reader_sees_the_answers_of_all_runs(beside_another: RunLedger, tmp_path: Path) -> None:
    RunLedger(str(tmp_path), "r2", "other").publish(3, COLUMNS)
    assert pq.read_table(tmp_path).num_rows == 5


def test_a_disk_that_is_full_leaves_a_run_unpublished(small_disk: Path) -> None:
    run = RunLedger(str(small_disk), "r1", "identity")
    run.write(answers(0, 1, attempt=os.urandom(40_000).hex()))
    with pytest.raises(DependencyError, match=r"answers.parquet: No space left on device; free some space$"):
        run.publish(2, COLUMNS)
    assert below(small_disk / "r1") == []


BLOCKS = st.lists(st.tuples(st.sets(st.integers(0, TOTAL - 1), min_size=1), st.booleans()), max_size=6)


@given(BLOCKS)
def test_whatever_attempts_staged_the_next_one_answers_each_prompt_once(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[set[int], bool]]
) -> None:
    run = RunLedger(str(tmp_path_factory.mktemp("run")), "r1", "identity")
    for positions, failed in blocks:
        run.write(answers(*sorted(positions), error="failed" if failed else None))
    fine = {position for positions, failed in blocks for position in positions if not failed}
    left = np.flatnonzero(~run.answered(TOTAL)).tolist()
    assert left == sorted(set(range(TOTAL)) - fine)
    run.write(answers(*left, attempt="second"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "WINDOW", 7)
        run.publish(TOTAL, COLUMNS)
    by = {True: "first", False: "second"}
    assert published(run) == [(f"prompt {at}", f"{at} by {by[at in fine]}", None) for at in range(TOTAL)]
