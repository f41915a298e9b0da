"""Candidates from the vectors and from the lexical index, ranked by both."""

import numpy as np

from ragjob.ledger.passages import Numbers, Passages
from ragjob.ledger.sentences import Sentences
from ragjob.retrieval.base import Hit, Vectors
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.filters import Selection
from ragjob.retrieval.hybrid import HybridRetrieval
from ragjob.retrieval.hybrid.fusion import convex, reciprocal_ranks
from ragjob.retrieval.lexical.index import LexicalIndex, best
from ragjob.retrieval.neighbours import Neighbours
from ragjob.retrieval.ranking import Ranking, Scored
from ragjob.retrieval.where import Condition


class HybridRetriever:
    """Fuses similarity and BM25 over the best rows of either: each has its true score on both sides."""

    def __init__(
        self,
        collection: Collection,
        index: LexicalIndex,
        passages: Passages,
        settings: HybridRetrieval,
        sentences: Sentences | None = None,
    ) -> None:
        self._neighbours = Neighbours(collection, passages, settings.batch_size)
        self._index = index
        self._ranking = Ranking(passages, settings, sentences)
        self._settings = settings
        self._count = max(settings.candidates, settings.top_k)

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        selections = self._ranking.select(conditions)
        nearest = self._neighbours.find(vectors, selections, self._count)
        return [self._find(*asked) for asked in zip(questions, vectors, nearest, selections, strict=True)]

    def _find(self, question: str, vector: Vectors, near: Numbers, passing: Selection | None) -> list[Hit]:
        scores = self._index.scores(question)
        rows = np.union1d(near, best(scores, self._count, passing.rows if passing else None))
        similarities, bm25 = self._ranking.similarities(rows, vector), scores[rows]
        fused = self._fused(self._ranking.with_sentences(rows, similarities, vector), bm25)
        return self._ranking.hits(Scored(rows, fused, similarities, bm25), vector, passing)

    def _fused(self, similarities: Vectors, bm25: Vectors) -> Vectors:
        if self._settings.fusion == "rrf":
            return reciprocal_ranks(similarities, bm25)
        return convex(similarities, bm25, self._settings.lexical_weight)
