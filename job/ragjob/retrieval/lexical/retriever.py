"""Candidates from the lexical index, in the order of their scores there."""

from ragjob.ledger.passages import Passages
from ragjob.retrieval.base import Hit, Vectors
from ragjob.retrieval.filters import Selection
from ragjob.retrieval.lexical.index import LexicalIndex, best
from ragjob.retrieval.ranking import Ranking, Scored
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition


class LexicalRetriever:
    """Ranks the rows that have words of a question by their BM25 scores."""

    def __init__(self, index: LexicalIndex, passages: Passages, settings: Retrieval) -> None:
        self._index = index
        self._ranking = Ranking(passages, settings)
        self._count = max(settings.candidates, settings.top_k)

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        selections = self._ranking.select(conditions)
        return [self._find(*asked) for asked in zip(questions, vectors, selections, strict=True)]

    def _find(self, question: str, vector: Vectors, passing: Selection | None) -> list[Hit]:
        scores = self._index.scores(question)
        rows = best(scores, self._count, passing.rows if passing else None)
        scored = Scored(rows, scores[rows], self._ranking.similarities(rows, vector), scores[rows])
        return self._ranking.hits(scored, vector, passing)
