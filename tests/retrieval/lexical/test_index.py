"""The lexical index: its scores, and the life of its file."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bm25s import BM25

from ragjob import storage
from ragjob.errors import DependencyError
from ragjob.ledger import schema
from ragjob.ledger.derived import SegmentFiles
from ragjob.ledger.segment import SegmentLedger
from ragjob.retrieval.lexical import build
from ragjob.retrieval.lexical.index import LexicalIndex, best, open_index, prepare
from ragjob.retrieval.lexical.tokens import Tokenizer
from tests.conftest import files_below
from tests.ledger.test_derived import chunks, derived, files_of
from tests.services import Bucket
from tests.storage.conftest import place, real_server, s3

__all__ = ["place", "real_server", "s3"]  # fixtures

TEXTS = [
    "The tram to Harrow Lane leaves every ten minutes, and the last tram at midnight.",
    "A ferry crosses the river.",
    "Harrow Lane has a depot for forty trams.",
    "Nothing of the kind.",
    "Night buses replace trams.",
]
QUESTIONS = ["When does the last tram leave?", "Where is the depot of trams, trams and ferries?", "zebra"]


def scores_by_text(index: LexicalIndex, files: SegmentFiles, question: str) -> dict[str, float]:
    passages, scores = files.open(), index.scores(question)
    return {passages.passage(row).text: float(scores[row]) for row in range(len(passages))}


@pytest.mark.parametrize("question", QUESTIONS)
def test_scores_are_those_of_the_plain_formula(tmp_path: Path, question: str) -> None:
    files = files_of(str(tmp_path), tmp_path / "cache", TEXTS)
    terms = {text: Tokenizer("en").terms(text) for text in TEXTS}
    mean = np.mean([len(text_terms) for text_terms in terms.values()])

    def score(text: str) -> float:
        total = 0.0
        for term in Tokenizer("en").terms(question):
            there, times = sum(term in text_terms for text_terms in terms.values()), terms[text].count(term)
            rarity = np.log(1 + (len(TEXTS) - there + 0.5) / (there + 0.5))
            total += rarity * times / (times + 1.5 * (0.25 + 0.75 * len(terms[text]) / mean))
        return float(total)

    scores = scores_by_text(open_index(files, "en", len(TEXTS)), files, question)
    assert scores == pytest.approx({text: score(text) for text in TEXTS}, abs=1e-6)


def test_scores_are_those_that_the_library_gives_for_an_index_of_its_own(tmp_path: Path) -> None:
    files = files_of(str(tmp_path), tmp_path / "cache", TEXTS)
    plain = BM25(method="lucene")
    plain.index([Tokenizer("en").terms(text) for text in TEXTS], show_progress=False)
    expected = dict(zip(TEXTS, plain.get_scores(Tokenizer("en").terms(QUESTIONS[1])).tolist(), strict=True))
    assert scores_by_text(open_index(files, "en", len(TEXTS)), files, QUESTIONS[1]) == pytest.approx(expected, abs=1e-6)


def test_title_and_headings_count_whatever_the_context(tmp_path: Path) -> None:
    ledger = SegmentLedger(str(tmp_path), "s1")
    rows = chunks(["Line 4 runs all night.", "It is closed."])
    rows = rows.set_column(rows.schema.get_field_index(schema.TITLE), schema.TITLE, [["Trams", "Ferries"]])
    rows = rows.set_column(rows.schema.get_field_index(schema.HEADING), schema.HEADING, [["At night", "Repairs"]])
    ledger.write(rows)
    files = SegmentFiles(str(tmp_path), "s1", derived(ledger), str(tmp_path / "cache"))
    by_question = [scores_by_text(open_index(files, "en", 2), files, question) for question in ("ferry", "repair")]
    assert [[text for text, score in scores.items() if score] for scores in by_question] == [["It is closed."]] * 2


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_equal_passages_give_equal_files_and_blocks_of_any_size_equal_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    files = files_of(str(tmp_path), tmp_path / "cache", TEXTS)
    whole = open_index(files, "en", len(TEXTS)).scores(QUESTIONS[1])
    monkeypatch.setattr(build, "BLOCK_ROWS", rows)
    for name in ("once", "again"):
        build.build(files.open(), "en", tmp_path / name)
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()
    np.testing.assert_array_equal(LexicalIndex(tmp_path / "once", "en", len(TEXTS)).scores(QUESTIONS[1]), whole)


def test_an_index_without_a_word_finds_nothing(tmp_path: Path) -> None:
    files = files_of(str(tmp_path), tmp_path / "cache", ["…", "the"])
    assert not open_index(files, "en", 2).scores("the tram").any()


def lexical_files(uri: str) -> list[str]:
    names = storage.list_names(SegmentLedger(uri, "s1").folder)
    return [name for name in names if name.startswith("lexical-")]


def test_it_is_built_once_and_lies_beside_the_segments_other_files(place: str, tmp_path: Path) -> None:
    files = files_of(place, tmp_path / "cache", TEXTS)
    assert [prepare(files, "en"), prepare(files, "en")] == [True, False]
    assert prepare(replace(files, cache=str(tmp_path / "other node")), "en") is False
    assert len(lexical_files(place)) == 1
    assert [prepare(files, "de"), len(lexical_files(place))] == [True, 2]


def test_a_damaged_file_is_built_anew(place: str, tmp_path: Path) -> None:
    files = files_of(place, tmp_path / "cache", TEXTS)
    before = open_index(files, "en", len(TEXTS)).scores(QUESTIONS[0])
    (name,) = lexical_files(place)
    uri = storage.join(SegmentLedger(place, "s1").folder, name)
    whole = storage.read_bytes(uri)
    storage.put(uri, whole[:-9] + b"?" + whole[-8:])

    again = replace(files, cache=str(tmp_path / "other node"))

    assert prepare(again, "en") is True
    np.testing.assert_array_equal(open_index(again, "en", len(TEXTS)).scores(QUESTIONS[0]), before)
    assert storage.read_bytes(uri) == whole


def test_a_job_that_may_not_write_to_the_index_keeps_it_in_the_nodes_cache(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(place, tmp_path / "cache", TEXTS)

    def refuse(*_: object) -> None:
        raise DependencyError("not allowed")

    monkeypatch.setattr(storage, "publish", refuse)
    assert [prepare(files, "en"), prepare(files, "en"), lexical_files(place)] == [True, False, []]
    assert [name for name in files_below(tmp_path / "cache" / "s1") if name.startswith("lexical-")]


def test_one_on_s3_is_fetched_once_for_a_node(s3: Bucket, tmp_path: Path) -> None:
    files = files_of(s3.uri, tmp_path / "cache", TEXTS)
    prepare(files, "en")
    storage.delete_folder(SegmentLedger(s3.uri, "s1").folder)
    assert prepare(files, "en") is False


def test_a_disk_without_room_is_an_error_of_one_line(tmp_path: Path, small_disk: Path) -> None:
    files = files_of(str(tmp_path), small_disk, [f"{text} {number}" for text in TEXTS for number in range(300)])
    with pytest.raises(DependencyError, match=r"^index.cache: can't build the lexical index in \S+: [^\n]+$"):
        prepare(files, "en")


@pytest.mark.parametrize(("count", "rows"), [(1, [2]), (2, [1, 2]), (3, [1, 2, 4]), (9, [1, 2, 4, 5])])
def test_the_best_are_above_0_and_of_equal_ones_those_of_the_first_rows(count: int, rows: list[int]) -> None:
    assert best(np.array([0, 2, 3, 0, 2, 2], np.float32), count).tolist()[: len(rows)] == rows
    assert len(best(np.array([0, 2, 3, 0, 2, 2], np.float32), count)) == min(count, 4)


def test_numba_is_left_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("")
    code = "import sys, ragjob.retrieval.lexical.index; assert 'numba' not in sys.modules; import numba"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True)
