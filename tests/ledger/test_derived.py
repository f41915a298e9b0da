"""Files derived from a segment: what they hold, and that damaged ones are built anew from the parts."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.derived import DerivedFiles, SegmentFiles, derive, npy_file
from ragjob.ledger.passages import Passages, similarities
from ragjob.ledger.segment import SegmentLedger
from tests.conftest import files_below
from tests.passages import make_chunks
from tests.services import Bucket
from tests.storage.conftest import place, real_server, s3

__all__ = ["place", "real_server", "s3"]  # fixtures

TEXTS = ["a tram", "a footer", "a depot", "a footer", "a footer", "a line\nof two"]


def chunks(texts: list[str]) -> pa.Table:
    """Chunks of as many documents, embedded as points on a circle."""
    angles = np.array([sorted(set(texts)).index(text) for text in texts])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    return make_chunks(texts, vectors, chunk_id=[f"chunk {number:03}" for number in reversed(range(len(texts)))])


def settle(uri: str, texts: list[str], cut: int = 2) -> SegmentLedger:
    """A segment of these texts, in parts of `cut` chunks."""
    ledger, rows = SegmentLedger(uri, "s1"), chunks(texts)
    for start in range(0, len(texts), cut):
        ledger.write(rows.slice(start, cut))
    return ledger


def derived(ledger: SegmentLedger) -> DerivedFiles:
    return derive(ledger, ledger.settle(ledger.survey()))[0]


def files_of(uri: str, cache: Path, texts: list[str] = TEXTS, cut: int = 2) -> SegmentFiles:
    return SegmentFiles(uri, "s1", derived(settle(uri, texts, cut)), str(cache))


def contents(passages: Passages) -> dict[str, tuple[str, int]]:
    """The first chunk of each text, and how many have it."""
    rows = [passages.passage(row) for row in range(len(passages))]
    return {row.text: (row.chunk_id, row.equals) for row in rows}


def test_a_row_is_one_distinct_text_and_names_the_first_of_its_chunks_by_id(tmp_path: Path) -> None:
    passages = files_of(str(tmp_path), tmp_path / "cache").open()
    assert contents(passages) == {
        "a tram": ("chunk 005", 1),
        "a footer": ("chunk 001", 3),
        "a depot": ("chunk 003", 1),
        "a line\nof two": ("chunk 000", 1),
    }


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=20),
    cut=st.integers(1, 20),
)
def test_rows_do_not_depend_on_how_parts_are_cut(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("index")
    cut_so = files_of(str(folder / "a"), folder, texts, cut).open()
    whole = files_of(str(folder / "b"), folder, texts, len(texts)).open()
    assert contents(cut_so) == contents(whole)
    assert cut_so.row_ids.tolist() == whole.row_ids.tolist() == sorted(whole.row_ids.tolist())
    assert len(whole) == len(set(texts))


def test_a_row_has_the_vector_of_its_text_within_half_precision(tmp_path: Path) -> None:
    passages = files_of(str(tmp_path), tmp_path / "cache").open()
    rows = passages.find([schema.digest_bytes(text.encode()) for text in sorted(set(TEXTS))])
    angles = np.arange(4)
    np.testing.assert_allclose(passages.vectors(rows), np.column_stack([np.cos(angles), np.sin(angles)]), atol=5e-4)
    assert passages.vectors(rows).dtype == np.float32


def test_similarities_are_exact_products_of_halves_of_any_size() -> None:
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = numbers[np.isfinite(numbers)].reshape(-1, 8)
    question = np.full(8, 1 / np.sqrt(8), np.float32)
    np.testing.assert_array_equal(similarities(halves, question), halves.astype(np.float32) @ question)


def test_ids_that_the_segment_hasnt_got_are_told_apart(tmp_path: Path) -> None:
    passages = files_of(str(tmp_path), tmp_path / "cache").open()
    known = passages.row_ids[2].decode()
    assert passages.find(["", known, known[:-1], f"{known}0", "z" * 24]).tolist() == [-1, 2, -1, -1, -1]


def test_equal_segments_have_equal_files(tmp_path: Path) -> None:
    assert derived(settle(str(tmp_path / "a"), TEXTS)) == derived(settle(str(tmp_path / "b"), TEXTS))


def put(uri: str, name: str, content: bytes) -> None:
    storage.put(storage.join(SegmentLedger(uri, "s1").folder, name), content)


@pytest.mark.parametrize("kind", ["passages", "vectors", "rows"])
def test_a_damaged_file_is_built_anew_from_the_parts(place: str, tmp_path: Path, kind: str) -> None:
    files = files_of(place, tmp_path / "first")
    name, before = getattr(files.files, kind), contents(files.open())
    whole = storage.read_bytes(storage.join(SegmentLedger(place, "s1").folder, name))
    put(place, name, whole[:-1] + bytes([whole[-1] ^ 1]))

    again = SegmentFiles(place, "s1", files.files, str(tmp_path / "second"))

    assert contents(again.open()) == before
    assert storage.read_bytes(storage.join(SegmentLedger(place, "s1").folder, name)) == whole


def test_missing_files_are_built_anew_in_the_nodes_cache_by_a_job_that_may_not_write(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(place, tmp_path / "cache")
    storage.delete(storage.join(SegmentLedger(place, "s1").folder, name) for name in astuple(files.files))

    def refuse(*_: object) -> None:
        raise DependencyError("not allowed")

    monkeypatch.setattr(storage, "publish", refuse)
    assert len(files.open()) == 4
    assert set(astuple(files.files)) <= set(files_below(tmp_path / "cache" / "s1"))


def test_files_that_the_parts_no_longer_give_are_refused_in_one_line(tmp_path: Path) -> None:
    files = files_of(str(tmp_path), tmp_path / "cache")
    other = SegmentFiles(str(tmp_path), "s1", DerivedFiles("passages-0.arrow", *astuple(files.files)[1:]), files.cache)
    with pytest.raises(DataError, match=r"^index.uri: the files of segment s1 are damaged, [^\n]+ run `ragjob index`$"):
        other.open()


def test_files_on_s3_are_fetched_once_for_a_node(s3: Bucket, tmp_path: Path) -> None:
    files = files_of(s3.uri, tmp_path / "cache")
    first = contents(files.open())
    storage.delete_folder(SegmentLedger(s3.uri, "s1").folder)
    assert contents(files.open()) == first


def test_processes_that_need_a_damaged_or_a_new_file_at_once_build_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(str(tmp_path), tmp_path / "cache")
    put(str(tmp_path), files.files.vectors, b"damaged")
    rebuilt, built = [], []
    rebuild = SegmentFiles._rebuild
    monkeypatch.setattr(SegmentFiles, "_rebuild", lambda *given: (rebuilt.append(1), rebuild(*given)))

    def build(target: Path) -> None:
        built.append(1)
        time.sleep(0.2)
        target.write_bytes(b"the same each time")

    with ThreadPoolExecutor(4) as pool:
        assert {len(passages) for passages in pool.map(lambda _: files.open(), range(4))} == {4}
        assert len(set(pool.map(lambda _: files.added("extra", build), range(4)))) == 1
    assert (len(rebuilt), len(built)) == (1, 1)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (1000, 384)])
def test_a_file_of_numpys_format_is_as_numpy_writes_it(tmp_path: Path, shape: tuple[int, int]) -> None:
    array = (np.arange(np.prod(shape)) % 2048).reshape(shape).astype(np.float16)
    np.save(tmp_path / "theirs.npy", array)
    with npy_file(tmp_path / "ours.npy", np.float16, shape) as sink:
        sink.write(array.tobytes())
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_full_disk_for_files_on_their_way_is_an_error_of_one_line(small_disk: Path, tmp_path: Path) -> None:
    ledger = settle(str(tmp_path), [f"{number} {'x' * 900}" for number in range(200)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(small_disk))
        with pytest.raises(
            DependencyError, match=r"^TMPDIR: can't write an index's files to .*No space left.*; free some"
        ):
            derive(ledger, ledger.settle(ledger.survey()))


def test_parts_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    ledger = settle(str(tmp_path), TEXTS)
    settled = ledger.settle(ledger.survey())
    (tmp_path / "segments" / "s1" / settled.parts[2].name).write_bytes(b"")
    with pytest.raises(DataError, match="not a complete Parquet file"):
        derive(ledger, settled)


def test_a_segment_without_all_its_chunks_is_refused(tmp_path: Path) -> None:
    ledger = settle(str(tmp_path), TEXTS)
    settled = ledger.settle(ledger.survey())
    with pytest.raises(
        DataError, match=r"^index.uri: segment s1 doesn't hold the 6 chunks that its segment.json counts"
    ):
        derive(ledger, replace(settled, parts=settled.parts[1:]))


def test_a_part_with_vectors_of_another_model_is_refused(tmp_path: Path) -> None:
    ledger = settle(str(tmp_path), TEXTS)
    settled = ledger.settle(ledger.survey())
    other = replace(settled, dimension=settled.dimension + 1)
    with pytest.raises(DataError, match=rf"^index.uri: segment s1 holds vectors of {settled.dimension} dimensions .*"):
        derive(ledger, other)
