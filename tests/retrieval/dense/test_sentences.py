"""What sentences change in the order of passages; the search in a real collection is in tests/retrieval/chroma."""

import numpy as np
import pytest

from ragjob.ledger.sentences import Sentences
from ragjob.retrieval.base import Hit
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.retrieval.settings import Retrieval
from tests.passages import make_passages, row_id

# Cosines to the question [1, 0]: of rows, and of sentences by their rows. Row 3 is one sentence.
OWN = [0.9, 0.5, 0.6, 0.8]
OF_SENTENCES = [(0, 0.7), (0, 0.2), (1, 0.1), (1, 0.95), (2, 0.3), (2, 0.4)]


def vectors(cosines: list[float]) -> np.ndarray:
    return np.column_stack([cosines, np.sqrt(1 - np.square(cosines))]).astype(np.float32)


class Nearest:
    """A collection that gives the nearest of all rows, and notes how many it was asked for."""

    def nearest(self, queries: np.ndarray, count: int, batch_size: int) -> list[list[str]]:
        self.count = count
        return [[row_id(row) for row in np.argsort(-np.array(OWN))[:count]] for _ in queries]


def search(**settings: float) -> tuple[list[Hit], int]:
    spans = np.array([(row, 10 * place, 10 * place + 9) for place, (row, _) in enumerate(OF_SENTENCES)], np.int32)
    sentences = Sentences(vectors([near for _, near in OF_SENTENCES]).astype(np.float16), spans, np.arange(len(OWN)))
    collection = Nearest()
    retriever = DenseRetriever(collection, make_passages(vectors(OWN)), Retrieval(**settings), sentences)
    [hits] = retriever.search(["?"], np.array([[1, 0]], np.float32), [None])
    return hits, collection.count


def test_a_passage_is_ranked_by_the_better_of_its_own_similarity_and_its_best_sentences() -> None:
    hits, asked = search(top_k=3)
    assert [hit.passage.text for hit in hits] == ["passage 1", "passage 0", "passage 3"]
    assert [hit.score for hit in hits] == pytest.approx([0.95, 0.9, 0.8], abs=1e-3)
    assert [hit.similarity for hit in hits] == pytest.approx([0.5, 0.9, 0.8], abs=1e-3)
    assert asked == 100


def test_a_hit_has_the_sentences_of_its_passage() -> None:
    hits, _ = search(top_k=3)
    assert [[sentence[:2] for sentence in hit.sentences or []] for hit in hits] == [
        [(20, 29), (30, 39)],
        [(0, 9), (10, 19)],
        [],
    ]
    assert [sentence.similarity for sentence in hits[0].sentences or []] == pytest.approx([0.1, 0.95], abs=1e-3)


def test_a_passage_below_the_least_similarity_is_left_out_whatever_its_sentences_are() -> None:
    hits, _ = search(top_k=3, min_score=0.55)
    assert [hit.passage.text for hit in hits] == ["passage 0", "passage 3", "passage 2"]


def test_as_many_candidates_are_compared_as_the_settings_say() -> None:
    hits, asked = search(top_k=1, candidates=2)
    assert ([hit.passage.text for hit in hits], asked) == (["passage 0"], 2)
    assert search(top_k=3, candidates=2)[1] == 3
