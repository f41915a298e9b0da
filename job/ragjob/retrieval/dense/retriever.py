"""Rank passages by the similarity of their embeddings, or of their sentences', to the question's."""

from collections.abc import Iterable

import numpy as np

from ragjob.ledger.passages import Numbers, Passages
from ragjob.ledger.sentences import Sentences
from ragjob.retrieval.base import Hit, Vectors
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.filters import Selection
from ragjob.retrieval.neighbours import Neighbours
from ragjob.retrieval.ranking import Ranking, Scored
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition

TIES = 4  # candidates beyond top_k where the last ones are of equal similarity


class DenseRetriever:
    """Ranks the rows that are nearest to a question by the vectors of the index."""

    def __init__(
        self, collection: Collection, passages: Passages, settings: Retrieval, sentences: Sentences | None = None
    ) -> None:
        self._neighbours = Neighbours(collection, passages, settings.batch_size)
        self._ranking = Ranking(passages, settings, sentences)
        self._settings = settings
        self._has_sentences = sentences is not None

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        selections = self._ranking.select(conditions)
        candidates = self._candidates(vectors, selections)
        return [self._hits(*asked) for asked in zip(candidates, vectors, selections, strict=True)]

    def _candidates(self, vectors: Vectors, selections: list[Selection | None]) -> Iterable[Numbers]:
        top_k = self._settings.top_k
        if self._has_sentences:
            return self._neighbours.find(vectors, selections, max(self._settings.candidates, top_k))
        candidates = list(self._neighbours.find(vectors, selections, top_k + 1))
        tied = [number for number, rows in enumerate(candidates) if self._is_tied(rows, vectors[number])]
        if tied:
            again = self._neighbours.find(vectors[tied], [selections[number] for number in tied], top_k + TIES)
            for number, rows in zip(tied, again, strict=True):
                candidates[number] = rows
        return candidates

    def _is_tied(self, rows: Numbers, vector: Vectors) -> bool:
        """Whether the candidate after the best `top_k` is as near as the last of them."""
        near, top_k = np.sort(self._ranking.similarities(rows, vector))[::-1], self._settings.top_k
        return len(near) > top_k and bool(near[top_k] == near[top_k - 1])

    def _hits(self, rows: Numbers, vector: Vectors, passing: Selection | None) -> list[Hit]:
        near = self._ranking.similarities(rows, vector)
        scored = Scored(rows, self._ranking.with_sentences(rows, near, vector), near)
        return self._ranking.hits(scored, vector, passing)
