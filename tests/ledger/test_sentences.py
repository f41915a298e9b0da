"""The sentences of a segment: staged beside its parts, joined once, read by row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.derived import DerivedFiles
from ragjob.ledger.segment import SegmentLedger
from ragjob.ledger.sentences import SentenceFiles, SentenceLedger, Sentences
from tests.conftest import files_below
from tests.passages import make_chunks
from tests.storage.conftest import place, real_server, s3

__all__ = ["place", "real_server", "s3"]  # fixtures

FILES = DerivedFiles("passages-1.arrow", "vectors-1.npy", "rows-1.parquet")
# Of each chunk its sentences' angles; None for a chunk whose sentences couldn't be embedded.
ANGLES: list[list[float] | None] = [[0.0, 1.0], [], [2.0, 2.5, 3.0], None, [0.5, 0.6]]
PARTS = {0: 2, 2: 4, 4: 5}  # the first chunk of each part, and its end


def unit(angles: list[float]) -> np.ndarray:
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def block(first: int) -> pa.Table:
    """What the stages make of the part that begins with the chunk `first`."""
    angles = ANGLES[first : PARTS[first]]
    spans = [of_row and [{"start": 10 * n, "end": 10 * n + 9} for n in range(len(of_row))] for of_row in angles]
    vectors = [of_row and list(unit(of_row).astype(np.float16)) for of_row in angles]
    types = schema.sentences_embedded(2)
    return pa.table([pa.array(spans, types.types[0]), pa.array(vectors, types.types[1])], types)


def settled(uri: str) -> dict[str, int]:
    """The parts of the segment, which is settled if need be, by name, with their first chunks."""
    segment = SegmentLedger(uri, "s1")
    if segment.manifest() is None:
        for first, end in PARTS.items():
            names = [f"chunk {n}" for n in range(first, end)]
            segment.write(make_chunks(names, unit([0.0] * len(names)), document_id=names))
    manifest = segment.settle(segment.survey())
    parts = {}
    for part in manifest.parts:
        [text, *_] = segment.read(part.name, [schema.TEXT])[schema.TEXT].to_pylist()
        parts[part.name] = int(text.split()[-1])
    return parts


def filled(uri: str) -> SentenceLedger:
    parts, ledger = settled(uri), SentenceLedger(uri, "s1", FILES)
    for part in ledger.missing():
        ledger.staged.write(part, block(parts[part]))
    return ledger


def joined(uri: str, cache: Path, ledger: SentenceLedger) -> Sentences:
    """The sentences by the numbers of their chunks, whatever the order of the parts."""
    manifest = ledger.manifest()
    assert manifest
    order = [number for first in settled(uri).values() for number in range(first, PARTS[first])]
    return SentenceFiles(uri, "s1", manifest, str(cache)).open(np.argsort(order))


def made(uri: str, cache: Path) -> Sentences:
    ledger = filled(uri)
    ledger.join()
    return joined(uri, cache, ledger)


def test_the_best_sentence_of_each_row_is_found_by_its_similarity(place: str, tmp_path: Path) -> None:
    similarities = made(place, tmp_path).best(np.array([4, 1, 0, 2, 3, 0]), unit([2.5])[0])
    expected = [np.cos(1.9), -1, np.cos(1.5), 1, -1, np.cos(1.5)]
    np.testing.assert_allclose(similarities, expected, atol=1e-3)
    assert similarities.dtype == np.float32


def test_a_rows_sentences_are_told_with_their_places(tmp_path: Path) -> None:
    sentences = made(str(tmp_path), tmp_path)
    starts, ends, near = zip(*sentences.of(2, unit([2.5])[0]), strict=True)
    assert (starts, ends) == ((0, 10, 20), (9, 19, 29))
    assert near == pytest.approx([np.cos(0.5), 1, np.cos(0.5)], abs=1e-3)
    assert sentences.of(1, unit([0])[0]) == []


def test_a_segment_without_any_sentence_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ANGLES", [[]] * len(ANGLES))
    sentences = made(str(tmp_path), tmp_path)
    assert sentences.best(np.arange(len(ANGLES)), unit([0])[0]).tolist() == [-1] * len(ANGLES)
    assert sentences.best(np.arange(0), unit([0])[0]).tolist() == []


def test_rows_of_one_first_chunk_have_its_sentences_and_no_other_chunks(tmp_path: Path) -> None:
    vectors = unit([0.0, 1.0, 2.0]).astype(np.float16)
    spans = np.array([[0, 0, 9], [0, 10, 19], [3, 0, 9]], np.int32)
    sentences = Sentences(vectors, spans, np.array([3, 1]))  # of four chunks, the first and the third of which equal
    np.testing.assert_allclose(sentences.best(np.arange(2), unit([2.0])[0]), [1, -1], atol=1e-3)


def test_a_rerun_finds_what_was_staged_and_what_is_staged_goes_once_joined(tmp_path: Path) -> None:
    uri = str(tmp_path)
    parts = settled(uri)
    [middle] = [name for name, first in parts.items() if first == 2]
    SentenceLedger(uri, "s1", FILES).staged.write(middle, block(2))
    again = SentenceLedger(uri, "s1", FILES)
    assert again.missing() == [name for name in parts if name != middle]
    with pytest.raises(DependencyError, match="were removed by another"):
        again.join()

    manifest = filled(uri).join()

    [key] = names_of_sentences(tmp_path) - {manifest.vectors, manifest.spans}
    assert key.endswith(".json")
    assert manifest.sentences == 7


def test_the_first_to_join_settles_the_files_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = filled(str(tmp_path)).join()
    monkeypatch.setitem(globals(), "ANGLES", [[9.0, 9.5]] * len(ANGLES))  # as another processor might compute them

    assert filled(str(tmp_path)).join() == first
    assert len(names_of_sentences(tmp_path)) == 3


def test_of_two_attempts_at_a_parts_sentences_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, parts = filled(str(tmp_path)), settled(str(tmp_path))
    monkeypatch.setitem(globals(), "ANGLES", [[0.0, 1.0, 2.0], *ANGLES[1:]])
    [name] = [name for name, first in parts.items() if first == 0]
    ledger.staged.write(name, block(0))  # of another attempt
    assert ledger.missing() == []
    assert ledger.join().sentences in (7, 8)
    assert len(names_of_sentences(tmp_path)) == 3


def test_of_two_attempts_the_one_with_fewer_failures_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, parts = filled(str(tmp_path)), settled(str(tmp_path))
    monkeypatch.setitem(globals(), "ANGLES", [*ANGLES[:3], [4.0, 5.0], ANGLES[4]])
    [name] = [name for name, first in parts.items() if first == 2]
    assert ledger.failed() == 1
    ledger.staged.write(name, block(2))
    assert ledger.failed() == 0
    assert ledger.join().sentences == 9


def test_parts_with_a_failure_can_be_tried_again(tmp_path: Path) -> None:
    ledger, parts = filled(str(tmp_path)), settled(str(tmp_path))
    ledger.give_up_failed()
    assert [parts[name] for name in ledger.missing()] == [2]


def test_sentences_of_other_chunks_or_in_another_order_count_for_nothing(tmp_path: Path) -> None:
    filled(str(tmp_path)).join()
    other = SentenceLedger(str(tmp_path), "s1", replace(FILES, passages="passages-2.arrow"))
    assert other.manifest() is None
    assert len(other.missing()) == len(PARTS)


def test_files_of_another_format_go_once_the_sentences_are_joined(tmp_path: Path) -> None:
    ledger = filled(str(tmp_path))
    for name in ("sentences-0123.json", "sentences-4567.npy", "spans-89ab.npy", "sentences-1-part-cdef-7-0.parquet"):
        (tmp_path / "segments" / "s1" / name).touch()
    ledger.join()
    assert len(names_of_sentences(tmp_path)) == 3


def test_files_that_another_attempt_has_named_meanwhile_arent_discarded(tmp_path: Path) -> None:
    ledger = filled(str(tmp_path))
    manifest = ledger.join()
    ledger.discard(replace(manifest, vectors="sentences-damaged.npy"))
    assert ledger.manifest() == manifest


def test_a_segment_that_is_removed_meanwhile_ends_with_one_line(tmp_path: Path) -> None:
    ledger = filled(str(tmp_path))
    SegmentLedger(str(tmp_path), "s1").remove()
    with pytest.raises(DependencyError, match="were removed by another process; run the job again"):
        ledger.join()


@pytest.mark.parametrize("kind", ["vectors", "spans"])
def test_a_damaged_file_is_told_apart_and_can_be_made_anew(place: str, tmp_path: Path, kind: str) -> None:
    ledger = filled(place)
    manifest = ledger.join()
    uri = storage.join(place, "segments", "s1", getattr(manifest, kind))
    whole = storage.read_bytes(uri)
    storage.put(uri, whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = SentenceFiles(place, "s1", manifest, str(tmp_path / "cache"))

    assert not damaged.are_whole()
    with pytest.raises(DataError, match="are damaged; run the job again"):
        damaged.open(np.arange(1))
    ledger.discard(manifest)
    assert made(place, tmp_path / "cache").best(np.array([0]), unit([0])[0]) == pytest.approx([1])


def names_of_sentences(folder: Path) -> set[str]:
    names = {Path(name).name for name in files_below(folder)}
    return {name for name in names if name.startswith(("sentences-", "spans-"))}
