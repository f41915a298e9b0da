"""What all modes do with the rows that they found: compare them with a question, put them in order, make hits."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from ragjob.ledger.passages import Numbers, Passages, Vectors
from ragjob.ledger.sentences import Sentences
from ragjob.retrieval.base import Hit
from ragjob.retrieval.filters import Filters, Selection
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition

DECIMALS = 5  # to which scores are compared; passages of equal ones are in the order of their ids


@dataclass(frozen=True)
class Scored:
    """Rows, what ranks them, their own similarities, and their scores in the lexical index, if there is one."""

    rows: Numbers
    scores: Vectors
    similarities: Vectors
    bm25: Vectors | None = None

    def take(self, places: Numbers | list[int]) -> "Scored":
        """Those at `places`."""
        bm25 = None if self.bm25 is None else self.bm25[places]
        return Scored(self.rows[places], self.scores[places], self.similarities[places], bm25)

    def __iter__(self) -> Iterator[tuple[int, float, float, float | None]]:
        bm25 = repeat(None) if self.bm25 is None else self.bm25.tolist()
        scores = np.round(self.scores, DECIMALS).tolist()
        return zip(self.rows.tolist(), scores, self.similarities.tolist(), bm25, strict=False)


class Ranking:
    """Ranks rows of an index for one question each, of those that pass its condition. Any number of threads may rank.

    With `sentences`, a passage is as similar to a question as the better of itself and its best sentence.
    """

    def __init__(self, passages: Passages, settings: Retrieval, sentences: Sentences | None = None) -> None:
        self._passages = passages
        self._settings = settings
        self._sentences = sentences
        self._filters = Filters(passages, settings.where)

    def select(self, conditions: list[Condition | None]) -> list[Selection | None]:
        """The rows that pass each condition; None for all."""
        distinct = {condition: self._filters.select(condition) for condition in set(conditions) if condition}
        return [distinct[condition] if condition else None for condition in conditions]

    def similarities(self, rows: Numbers, vector: Vectors) -> Vectors:
        """Cosine similarity of each row to a question's embedding, float32 [n]."""
        return np.round(self._passages.similarities(rows, vector), DECIMALS)

    def with_sentences(self, rows: Numbers, similarities: Vectors, vector: Vectors) -> Vectors:
        """The better of each row's similarity and its best sentence's, float32 [n]."""
        if self._sentences is None:
            return similarities
        return np.maximum(similarities, self._sentences.best(rows, vector))

    def hits(self, scored: Scored, vector: Vectors, passing: Selection | None) -> list[Hit]:
        """The best `top_k` rows by their scores, of those similar enough to a question."""
        least = self._settings.min_score
        if least is not None:
            scored = scored.take(np.flatnonzero(scored.similarities >= least))
        passages = passing or self._passages
        best = scored.take(self._best(scored.rows, np.round(scored.scores, DECIMALS), passages))
        return [
            Hit(
                passages.passage(row),
                score,
                similarity,
                bm25,
                self._sentences.of(row, vector) if self._sentences else None,
            )
            for row, score, similarity, bm25 in best
        ]

    def _best(self, rows: Numbers, scores: Vectors, passages: Passages | Selection) -> list[int]:
        """Places of the best `top_k` of `scores`, best first, equal ones in the order of their chunks' ids."""
        top_k = self._settings.top_k
        least = np.partition(scores, -top_k)[-top_k] if top_k < len(scores) else -np.inf
        places = np.flatnonzero(scores >= least).tolist()
        return sorted(places, key=lambda place: (-scores[place], passages.chunk_id(int(rows[place]))))[:top_k]
