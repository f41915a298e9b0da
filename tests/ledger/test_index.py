import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from math import cos, sin
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob import storage
from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.ledger.index import About, IndexLedger, IndexManifest, current_version, set_current
from ragjob.ledger.segment import SegmentManifest
from tests.conftest import files_below

LISTING = pa.table([["a.md"], [7], ["tag"]], schema.LISTING)
ABOUT = About("f", {"chunk.size": 200}, "minilm@1", LISTING)
FINE = [None, None]  # the errors of a document's chunks
HALF = [None, "too long"]
BAD = ["blank"]


def unit_vector(angle: float) -> list[float]:
    return [cos(angle), sin(angle)]


def chunks(documents: dict[str, list[str | None]]) -> pa.Table:
    """Chunks of these documents, embedded but for those with an error; most words of "c" are unknown."""
    rows = [(name, index, error) for name, errors in documents.items() for index, error in enumerate(errors)]
    fields = [
        {
            "chunk_id": f"{name}{index}",
            "document_id": name,
            "uri": f"{name}.md",
            "chunk_index": index,
            "text": f"text {index} of {name}",
            "error": error,
            "short_count": 3 * (index == 0),
            "unknown_share": 0.75 * ((name, index) == ("c", 0)),
            "embedding": None if error else unit_vector(7 * ord(name) + index),
        }
        for name, index, error in rows
    ]
    return pa.Table.from_pylist(fields, pa.schema([*schema.CHUNKS, *schema.embedded(2)]))


@pytest.fixture
def index(tmp_path: Path) -> IndexLedger:
    return IndexLedger(str(tmp_path), "v1")


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of the version that `index` writes."""
    return tmp_path / "versions" / "v1"


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """The folder of its segment."""
    return tmp_path / "segments" / "v1"


def settled(index: IndexLedger) -> SegmentManifest:
    manifest = index.segment.manifest()
    assert manifest
    return manifest


def committed_ids(index: IndexLedger) -> list[str]:
    parts = index.segment.batches(settled(index))
    return sorted(name for part in parts for name in part["chunk_id"].to_pylist())


def test_documents_in_a_part_are_done(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE, "b": FINE}))
    index.segment.write(chunks({"c": FINE}))
    assert index.segment.done() == {"a", "b", "c"}


def test_documents_with_a_failed_chunk_are_tried_again(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE, "b": HALF, "c": BAD}))
    assert index.segment.done() == {"a"}


def test_the_same_block_staged_twice_is_one_part(index: IndexLedger, segment: Path) -> None:
    index.segment.write(chunks({"a": FINE, "b": FINE}))
    index.segment.write(chunks({"a": FINE, "b": FINE}))
    assert len(files_below(segment)) == 1


def test_a_version_is_committed_with_what_it_holds(index: IndexLedger) -> None:
    index.segment.settle_dtype(lambda: "bfloat16")
    index.segment.write(chunks({"a": FINE, "b": HALF, "c": BAD}))
    manifest = index.commit(index.segment.survey(), ABOUT)
    assert manifest == index.manifest()
    assert replace(manifest, segments=[], created="") == IndexManifest(
        version="v1",
        fingerprint=ABOUT.fingerprint,
        settings=ABOUT.settings,
        embed_model=ABOUT.embed_model,
        dtype="bfloat16",
        dimension=2,
        metric="cosine",
        documents=3,
        failed=2,
        chunks=3,
        created="",
        rows=3,
        short_passages=9,
        unknown_documents=1,
    )
    assert abs(datetime.fromisoformat(manifest.created) - datetime.now(UTC)) < timedelta(minutes=1)
    assert committed_ids(index) == ["a0", "a1", "b0"]


def test_committed_parts_have_the_designs_columns(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": HALF, "b": FINE}))
    index.commit(index.segment.survey(), ABOUT)
    of_text = ["text", "context", "title", "heading", "page", "metadata"]
    names = ["chunk_id", "document_id", "uri", "chunk_index", *of_text, "short_count", "unknown_share", "embedding"]
    parts = list(index.segment.batches(settled(index)))
    assert [part.column_names for part in parts] == [names] * 2
    assert [part.schema.field("embedding").type for part in parts] == [pa.list_(pa.float32(), 2)] * 2
    assert sum(part.rows for part in settled(index).parts) == settled(index).chunks == 3


def test_documents_are_listed_with_their_chunks_and_first_error(index: IndexLedger, version: Path) -> None:
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    index.commit(index.segment.survey(), ABOUT)
    documents = pq.read_table(version / "documents.parquet")
    assert documents.schema == schema.VERSION_DOCUMENTS
    left_out = ["digest", "title", "metadata", "short_count", "unknown_share"]
    assert documents.drop_columns(left_out).to_pylist() == [
        {"document_id": "a", "uri": "a.md", "chunk_count": 2, "failed_count": 0, "error": None, "segment": "v1"},
        {"document_id": "b", "uri": "b.md", "chunk_count": 1, "failed_count": 1, "error": "too long", "segment": "v1"},
    ]
    assert index.errors()["document_id"].to_pylist() == ["b"]


def test_a_version_lists_its_input_files(index: IndexLedger, version: Path) -> None:
    index.segment.write(chunks({"a": FINE}))
    index.commit(index.segment.survey(), ABOUT)
    assert pq.read_table(version / "listing.parquet").equals(LISTING)


def test_documents_are_listed_with_their_short_passages_and_unknown_words(index: IndexLedger, version: Path) -> None:
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    index.segment.write(chunks({"c": FINE}))
    index.commit(index.segment.survey(), ABOUT)
    documents = pq.read_table(version / "documents.parquet").sort_by("document_id")
    assert documents.select(["document_id", "short_count", "unknown_share"]).to_pylist() == [
        {"document_id": "a", "short_count": 3, "unknown_share": 0.0},
        {"document_id": "b", "short_count": 3, "unknown_share": 0.0},
        {"document_id": "c", "short_count": 3, "unknown_share": 0.75},
    ]
    assert index.unknown_documents()["document_id"].to_pylist() == ["c"]


def test_a_version_isnt_there_before_it_is_committed(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE}))
    assert index.manifest() is None


def test_documents_of_attempts_that_overlap_count_once(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE, "b": FINE}))
    index.segment.write(chunks({"c": FINE}))
    index.segment.write(chunks({"b": FINE, "c": FINE, "d": FINE}))
    manifest = index.commit(index.segment.survey(), ABOUT)
    assert (manifest.documents, manifest.chunks) == (4, 8)
    assert committed_ids(index) == ["a0", "a1", "b0", "b1", "c0", "c1", "d0", "d1"]


@pytest.mark.parametrize("attempts", [[HALF, FINE], [FINE, HALF], [BAD, FINE, HALF]])
def test_a_document_that_failed_in_one_attempt_and_not_in_another_is_fine(
    index: IndexLedger, attempts: list[list[str | None]]
) -> None:
    for errors in attempts:
        index.segment.write(chunks({"a": errors}))
    manifest = index.commit(index.segment.survey(), ABOUT)
    assert (manifest.documents, manifest.failed, committed_ids(index)) == (1, 0, ["a0", "a1"])


VERSION_FILES = ["documents.parquet", "listing.parquet", "manifest.json"]


def segment_files(index: IndexLedger) -> list[str]:
    """The files that a committed version's segment consists of."""
    manifest = index.manifest()
    assert manifest
    parts = [part.name for part in settled(index).parts]
    return sorted([*parts, settled(index).documents_file, "segment.json", *astuple(manifest.segments[0].files)])


def test_a_commit_leaves_only_what_it_lists(index: IndexLedger, version: Path, segment: Path) -> None:
    index.segment.settle_dtype(lambda: "float32")
    index.segment.take_up()
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    index.segment.write(chunks({"a": FINE, "c": FINE}))
    (segment / "_part-torn.parquet.x7").write_bytes(b"left by a killed writer")
    index.commit(index.segment.survey(), ABOUT)
    assert files_below(version) == VERSION_FILES
    assert files_below(segment) == segment_files(index)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


KILLED_AT = {
    "at the segment's manifest": "ragjob.ledger.segment.to_json",
    "at the derived files": "ragjob.ledger.derived.put",
    "at the documents": "ragjob.ledger.index.to_parquet",
    "at the version's manifest": "ragjob.ledger.index.to_json",
    "at the sweep": "ragjob.ledger.segment.SegmentLedger.sweep",
}


@pytest.mark.parametrize("place", KILLED_AT.values(), ids=KILLED_AT)
def test_a_commit_that_was_killed_is_brought_to_the_same_end_by_the_next(
    index: IndexLedger, tmp_path: Path, version: Path, segment: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    twin = IndexLedger(str(tmp_path / "undisturbed"), "v1")
    for ledger in (index, twin):
        ledger.segment.write(chunks({"a": FINE, "b": HALF}))
        ledger.segment.write(chunks({"a": FINE, "c": FINE}))
    monkeypatch.setattr(place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.commit(index.segment.survey(), ABOUT)
    monkeypatch.undo()
    made = index.commit(index.segment.survey(), ABOUT)
    assert made == replace(twin.commit(twin.segment.survey(), ABOUT), created=made.created)
    assert (files_below(version), files_below(segment)) == (VERSION_FILES, segment_files(index))
    assert index.errors()["document_id"].to_pylist() == ["b"]


def test_who_loses_the_race_to_commit_keeps_the_winners_list_of_documents(
    index: IndexLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    parts = index.segment.survey()
    index.segment.write(chunks({"b": FINE}))
    winner = index.commit(index.segment.survey(), ABOUT)
    manifests = iter([None, winner])
    monkeypatch.setattr(index, "manifest", lambda: next(manifests, winner))
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    assert index.commit(parts, ABOUT) == winner
    assert index.errors().num_rows == 0


def test_who_commits_second_leaves_the_first_ones_version_as_it_is(index: IndexLedger, tmp_path: Path) -> None:
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    first = index.commit(index.segment.survey(), ABOUT)
    before = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    index.segment.write(chunks({"b": FINE, "c": FINE}))
    assert index.commit(index.segment.survey(), ABOUT) == first
    assert {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)} == before


def test_a_segment_that_another_attempt_settled_is_taken_as_it_is(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE, "b": HALF}))
    first = index.segment.settle(index.segment.survey())
    index.segment.write(chunks({"b": FINE}))
    assert index.segment.settle(index.segment.survey()) == first
    assert index.commit(index.segment.survey(), ABOUT).chunks == 3


@pytest.mark.parametrize("needed", [[True], [False, True]], ids=["before", "meanwhile"])
def test_a_manifest_isnt_withdrawn_from_who_needs_it(index: IndexLedger, needed: list[bool]) -> None:
    index.segment.write(chunks({"a": FINE}))
    made = index.commit(index.segment.survey(), ABOUT)
    assert index.withdraw(iter(needed).__next__) is False
    assert index.manifest() == made


def test_a_manifest_that_nobody_needs_is_withdrawn_once_and_again(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE}))
    index.commit(index.segment.survey(), ABOUT)
    assert [index.withdraw(lambda: False) for _ in range(2)] == [True, True]
    assert index.manifest() is None


def test_a_late_writers_part_isnt_read(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": FINE}))
    index.commit(index.segment.survey(), ABOUT)
    index.segment.write(chunks({"a": FINE, "b": FINE}))
    assert committed_ids(index) == ["a0", "a1"]


def test_documents_that_hold_nothing_are_counted_by_their_empty_text(index: IndexLedger) -> None:
    rows = chunks({"a": FINE, "b": BAD, "c": BAD, "d": HALF}).to_pylist()
    empty = [row | {"text": ""} if row["document_id"] == "b" else row for row in rows]
    index.segment.write(pa.Table.from_pylist(empty, chunks({}).schema))
    index.segment.write(chunks({"e": FINE}))
    assert [part.empty for part in index.segment.survey()] == [0, 0, 1]


def test_a_version_without_a_chunk_is_refused(index: IndexLedger) -> None:
    index.segment.write(chunks({"a": BAD, "b": BAD}))
    with pytest.raises(
        DataError, match=r"^corpus.uri: none of its passages .*the errors in .*_failed-\*.parquet say what to correct$"
    ):
        index.commit(index.segment.survey(), ABOUT)


def test_the_first_dtype_that_is_measured_holds(index: IndexLedger) -> None:
    assert index.segment.settle_dtype(lambda: "bfloat16") == "bfloat16"
    assert index.segment.settle_dtype(lambda: "float32") == "bfloat16"


def test_workers_that_measure_at_once_agree_on_a_dtype(index: IndexLedger) -> None:
    with ThreadPoolExecutor(8) as pool:
        settled = list(pool.map(lambda number: index.segment.settle_dtype(lambda: f"float{number}"), range(8)))
    assert len(set(settled)) == 1


def test_a_part_that_is_cut_short_is_named(index: IndexLedger, segment: Path) -> None:
    index.segment.write(chunks({"a": FINE}))
    part = segment / files_below(segment)[0]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"^{part}: not a complete Parquet file; remove it and run again$"):
        index.segment.done()


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "v1"}'])
def test_a_manifest_that_isnt_one_is_named(index: IndexLedger, version: Path, content: str) -> None:
    storage.put(str(version / "manifest.json"), content.encode())
    with pytest.raises(
        DataError,
        match=r"^index.uri: .*/manifest.json isn't a manifest of ragjob: .*; remove it and run `ragjob index`$",
    ):
        index.manifest()


@pytest.mark.parametrize("content", ["{", "[]", '{"segment": "v1"}'])
def test_a_segments_file_that_isnt_one_is_named(index: IndexLedger, segment: Path, content: str) -> None:
    storage.put(str(segment / "segment.json"), content.encode())
    with pytest.raises(
        DataError, match=r"^index.uri: .*/segment.json isn't a segment of ragjob: .*; remove its folder"
    ):
        index.segment.manifest()


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
        index.segment.write(chunks(documents))
    fine = {name for documents in attempts for name, errors in documents.items() if errors == FINE}
    assert index.segment.done() == fine
    index.segment.write(chunks(dict.fromkeys(sorted(set("abcdef") - index.segment.done()), FINE)))
    manifest = index.commit(index.segment.survey(), ABOUT)
    assert (manifest.documents, manifest.failed) == (6, 0)
    assert committed_ids(index) == [f"{name}{number}" for name in "abcdef" for number in (0, 1)]


ELSEWHERE = "../../theirs"
NAMED = {
    "versions/v1/manifest.json": [
        {"version": ELSEWHERE},
        {"segments": [{"segment": ELSEWHERE, "files": {"passages": "p", "vectors": "v", "rows": "r"}}]},
        {"segments": [{"segment": "v1", "files": {"passages": "p", "vectors": ELSEWHERE, "rows": "r"}}]},
    ],
    "segments/v1/segment.json": [
        {"segment": ELSEWHERE},
        {"documents_file": ELSEWHERE},
        {"parts": [{"name": ELSEWHERE, "rows": 1}]},
    ],
}


@pytest.mark.parametrize(("file", "fields"), [(file, fields) for file in NAMED for fields in NAMED[file]], ids=str)
def test_a_manifest_that_names_a_file_elsewhere_is_a_data_error(
    index: IndexLedger, tmp_path: Path, file: str, fields: dict[str, object]
) -> None:
    index.segment.write(chunks({"a": FINE}))
    index.commit(index.segment.survey(), ABOUT)
    manifest = json.loads((tmp_path / file).read_bytes())
    (tmp_path / file).write_text(json.dumps(manifest | fields))
    with pytest.raises(DataError, match=rf"^index.uri: .*{file} isn't a \w+ of ragjob: {min(fields)}"):
        [index.manifest(), index.segment.manifest()]


def test_a_current_version_that_leads_elsewhere_is_a_data_error(tmp_path: Path) -> None:
    set_current(str(tmp_path), "../v1")
    with pytest.raises(DataError, match=r"^index.uri: .*current.json names no version: run `ragjob index` again$"):
        current_version(str(tmp_path))


def test_a_version_knows_its_documents_titles_and_the_names_of_their_metadata(
    index: IndexLedger, version: Path
) -> None:
    rows = chunks({"a": FINE, "b": FINE}).to_pylist()
    about = {"a": {"title": "Trams", "metadata": '{"year": 1931, "line": 4}'}, "b": {"metadata": '{"depot": null}'}}
    titled = [row | about[row["document_id"]] for row in rows]
    index.segment.write(pa.Table.from_pylist(titled, chunks({"a": FINE}).schema))
    manifest = index.commit(index.segment.survey(), ABOUT)
    documents = pq.read_table(version / "documents.parquet").select(["title", "metadata"])
    assert documents.to_pylist() == [{"title": None} | about["a"], {"title": None} | about["b"]]
    assert manifest.metadata == ["depot", "line", "year"]


@pytest.mark.parametrize("change", [{"context": "Trams"}, {"metadata": '{"year": 1931}'}])
def test_a_documents_digest_covers_contexts_and_metadata(tmp_path: Path, change: dict[str, str]) -> None:
    digests = set()
    for number, changed in enumerate([{}, change]):
        segment = IndexLedger(str(tmp_path), f"v{number}").segment
        rows = [row | changed for row in chunks({"a": FINE}).to_pylist()]
        segment.write(pa.Table.from_pylist(rows, chunks({"a": FINE}).schema))
        digests.update(segment.survey()[0].documents["digest"].to_pylist())
    assert len(digests) == 2
