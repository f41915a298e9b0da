"""The modes on one small index, against a real Chroma server."""

from pathlib import Path

import numpy as np
import pytest

from ragjob.config import Retrieve
from ragjob.ledger.derived import SegmentFiles, derive
from ragjob.ledger.segment import SegmentLedger
from ragjob.retrieval import MODES
from ragjob.retrieval.base import Hit, Served
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.loading import load
from tests.passages import make_chunks

pytestmark = pytest.mark.services

# Points on a circle, of which the last is far from all questions about trams.
TEXTS = [f"About trams, part {number}" for number in range(30)] + ["The KX-77 coupling is greased each May."]
ANGLES = np.array([number / 40 for number in range(30)] + [2.0])
TRAMS, FAR = np.array([[1, 0]], np.float32), np.array([[-1, 0]], np.float32)


def points(angles: np.ndarray) -> np.ndarray:
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


@pytest.fixture(scope="module")
def served(shared_chroma: str, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return serve(shared_chroma, tmp_path_factory.mktemp("index"), TEXTS, ANGLES)


def serve(url: str, folder: Path, texts: list[str], angles: np.ndarray) -> Served:
    ledger = SegmentLedger(str(folder), "s1")
    ledger.write(make_chunks(texts, points(angles)))
    names, rows = derive(ledger, ledger.settle(ledger.survey()))
    files = SegmentFiles(str(folder), "s1", names, str(folder / "cache"))
    served = Served(Target(url, 20), Expected(f"{folder.name}-1", "1", "fingerprint", rows, 2, str(folder)), files)
    load(served.target, served.expected, files.open(), lambda _: None)
    return served


def search(served: Served, question: str, vector: np.ndarray = TRAMS, **settings: object) -> list[Hit]:
    chosen = Retrieve(**settings)
    return MODES[chosen.mode](chosen).make(served).search([question], vector, [None])[0]


def texts(hits: list[Hit]) -> list[str]:
    return [hit.passage.text for hit in hits]


def test_hybrid_finds_a_rare_word_that_dense_misses(served: Served) -> None:
    question = "What is a KX-77?"
    assert TEXTS[-1] not in texts(search(served, question, mode="dense"))
    assert texts(search(served, question, lexical_weight=0.6))[0] == TEXTS[-1]
    assert texts(search(served, question, mode="lexical")) == [TEXTS[-1]]


def test_scores_are_what_ranked_and_similarities_are_cosines(served: Served) -> None:
    cosines = dict(zip(TEXTS, np.cos(ANGLES), strict=True))
    dense, hybrid, lexical = (
        search(served, "coupling KX-77", mode=mode, top_k=40) for mode in ("dense", "hybrid", "lexical")
    )
    for hits in (dense, hybrid, lexical):
        assert [hit.similarity for hit in hits] == pytest.approx([cosines[text] for text in texts(hits)], abs=1e-3)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.score for hit in dense] == [hit.similarity for hit in dense]
    shares = {text: 0.8 * (cosine + 1) / (cosines[TEXTS[0]] + 1) for text, cosine in cosines.items()}
    shares[TEXTS[-1]] += 0.2
    assert {hit.passage.text: hit.score for hit in hybrid} == pytest.approx(shares, abs=1e-3)
    assert lexical[0].score > 1


def test_a_question_without_a_known_word_is_answered_by_similarity(served: Served) -> None:
    assert texts(search(served, "zebra?")) == TEXTS[:3]
    assert search(served, "zebra?", mode="lexical") == []


@pytest.mark.parametrize("mode", MODES)
def test_passages_that_are_not_similar_enough_are_left_whatever_ranked_them(served: Served, mode: str) -> None:
    hits = search(served, "KX-77 trams", mode=mode, min_score=0.9, top_k=40)
    assert hits
    assert min(hit.similarity for hit in hits) >= 0.9


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
def test_passages_of_equal_scores_are_in_the_order_of_their_chunks(
    shared_chroma: str, tmp_path: Path, fusion: str
) -> None:
    twins = serve(shared_chroma, tmp_path, [f"tram {letter}" for letter in "kbcgx"], np.zeros(5))
    for mode in MODES:
        hits = search(twins, "tram", mode=mode, fusion=fusion, top_k=4)
        assert [hit.passage.chunk_id for hit in hits] == [f"chunk-{number:05}" for number in range(4)]


def test_fewer_passages_than_candidates_are_no_trouble(served: Served) -> None:
    assert len(search(served, "trams", FAR, top_k=1000)) == len(TEXTS)
