"""The sentences of a segment: staged in parts, joined once, read by row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema, sentences
from ragjob.ledger.derived import DerivedFiles
from ragjob.ledger.sentences import SentenceFiles, SentenceLedger, Sentences
from tests.conftest import files_below
from tests.storage.conftest import place, real_server, s3

__all__ = ["place", "real_server", "s3"]  # fixtures

FILES = DerivedFiles("passages-1.arrow", "vectors-1.npy", "rows-1.parquet")
ROWS = 5
# Of each row its sentences' angles; None for a row that failed.
ANGLES: list[list[float] | None] = [[0.0, 1.0], [], [2.0, 2.5, 3.0], None, [0.5, 0.6]]


def unit(angles: list[float]) -> np.ndarray:
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def block(first: int, end: int) -> pa.Table:
    """What the stages make of the rows `first` to `end` - 1."""
    angles = ANGLES[first:end]
    spans = [of_row and [{"start": 10 * n, "end": 10 * n + 9} for n in range(len(of_row))] for of_row in angles]
    vectors = [of_row and unit(of_row).tolist() for of_row in angles]
    types = schema.sentences_embedded(2)
    numbers = pa.array(range(first, end), pa.int64())
    columns = [numbers, pa.array(spans, types.types[0]), pa.array(vectors, types.types[1])]
    return pa.table(columns, [schema.ROW, *types.names])


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "PART_ROWS", 2)


def filled(uri: str) -> SentenceLedger:
    ledger = SentenceLedger(uri, "s1", FILES, ROWS)
    for first, end in ledger.missing():
        ledger.write(block(first, end))
    return ledger


def files_of(uri: str, ledger: SentenceLedger, cache: Path) -> SentenceFiles:
    manifest = ledger.manifest()
    assert manifest
    return SentenceFiles(uri, "s1", manifest, ROWS, str(cache))


def joined(uri: str, cache: Path) -> Sentences:
    ledger = filled(uri)
    ledger.join(2)
    return files_of(uri, ledger, cache).open()


def test_the_best_sentence_of_each_row_is_found_by_its_similarity(place: str, tmp_path: Path) -> None:
    found = joined(place, tmp_path).best(np.array([4, 1, 0, 2, 3, 0]), unit([2.5])[0])
    expected = [np.cos(1.9), -1, np.cos(1.5), 1, -1, np.cos(1.5)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found.dtype == np.float32


def test_a_rows_sentences_are_told_with_their_places(tmp_path: Path) -> None:
    found = joined(str(tmp_path), tmp_path)
    starts, ends, near = zip(*found.of(2, unit([2.5])[0]), strict=True)
    assert (starts, ends) == ((0, 10, 20), (9, 19, 29))
    assert near == pytest.approx([np.cos(0.5), 1, np.cos(0.5)], abs=1e-3)
    assert found.of(1, unit([0])[0]) == []


def test_a_segment_without_any_sentence_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ANGLES", [[]] * ROWS)
    assert joined(str(tmp_path), tmp_path).best(np.arange(ROWS), unit([0])[0]).tolist() == [-1] * ROWS
    assert joined(str(tmp_path), tmp_path).best(np.arange(0), unit([0])[0]).tolist() == []


def test_a_rerun_finds_what_was_staged_and_the_parts_go_once_joined(tmp_path: Path) -> None:
    uri = str(tmp_path)
    first = SentenceLedger(uri, "s1", FILES, ROWS)
    first.write(block(2, 4))
    again = SentenceLedger(uri, "s1", FILES, ROWS)
    assert again.missing() == [(0, 2), (4, 5)]
    with pytest.raises(DependencyError, match="were removed by another"):
        again.join(2)

    manifest = filled(uri).join(2)

    names = {Path(name).name for name in files_below(tmp_path)}
    assert len(names) == 3
    assert {manifest.vectors, manifest.spans} < names
    assert manifest.sentences == 7


def test_the_first_to_join_settles_the_files_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = filled(str(tmp_path)).join(2)
    monkeypatch.setitem(globals(), "ANGLES", [[9.0, 9.5]] * ROWS)  # as another processor might compute them

    assert filled(str(tmp_path)).join(2) == first
    assert len(files_below(tmp_path)) == 3


def test_of_two_attempts_parts_of_the_same_rows_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled(str(tmp_path))
    monkeypatch.setitem(globals(), "ANGLES", [[0.0, 1.0, 2.0], *ANGLES[1:]])
    ledger.write(block(0, 2))  # of another attempt, in which no row failed
    assert ledger.missing() == []
    assert ledger.join(2).sentences in (7, 8)
    assert len(files_below(tmp_path)) == 3


def test_other_rows_have_other_sentences(tmp_path: Path) -> None:
    filled(str(tmp_path)).join(2)
    other = SentenceLedger(str(tmp_path), "s1", DerivedFiles("p-2.arrow", "v-2.npy", "rows-2.parquet"), ROWS)
    assert other.manifest() is None
    assert len(other.missing()) == 3


@pytest.mark.parametrize("kind", ["vectors", "spans"])
def test_a_damaged_file_is_told_apart_and_can_be_made_anew(place: str, tmp_path: Path, kind: str) -> None:
    ledger = filled(place)
    uri = storage.join(place, "segments", "s1", getattr(ledger.join(2), kind))
    whole = storage.read_bytes(uri)
    storage.put(uri, whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = files_of(place, ledger, tmp_path / "cache")

    assert not damaged.are_whole()
    with pytest.raises(DataError, match="are damaged; run the job again"):
        damaged.open()
    ledger.discard()
    assert joined(place, tmp_path / "cache").best(np.array([0]), unit([0])[0]) == pytest.approx([1])
