"""Candidates from a Chroma collection, or of what passes a filter all, ranked by the vectors of the index."""

from collections.abc import Callable, Iterable

import numpy as np

from ragjob.ledger.passages import Numbers, Passages
from ragjob.retrieval.base import Hit, Vectors
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.exact import nearest
from ragjob.retrieval.filters import Filters, Selection
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition

DECIMALS = 5  # to which similarities are compared; passages of equal ones are in the order of their ids
TIES = 4  # candidates beyond top_k where the last ones are of equal similarity

Ranked = tuple[list[int], list[float]]  # rows and their similarities, best first


class DenseRetriever:
    """Takes candidates from one Chroma collection, and ranks them by the vectors of the index.

    Where a question has a condition, all rows that pass are compared with it: Chroma's own filters take far longer.
    """

    def __init__(self, collection: Collection, passages: Passages, settings: Retrieval) -> None:
        self._collection = collection
        self._passages = passages
        self._settings = settings
        self._filters = Filters(passages, settings.where)

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        hits: dict[int, list[Hit]] = {}
        asked: dict[Condition | None, list[int]] = {}
        for number, condition in enumerate(conditions):
            asked.setdefault(condition, []).append(number)
        if free := asked.pop(None, []):
            hits |= zip(free, self._search_all(vectors[free]), strict=True)
        if asked:
            selections = [
                (self._filters.select(condition), numbers) for condition, numbers in asked.items() if condition
            ]
            hits |= self._search_selections(vectors, selections)
        return [hits[number] for number in range(len(questions))]

    def _search_all(self, vectors: Vectors) -> Iterable[list[Hit]]:
        top_k = self._settings.top_k
        ranked = self._nearest(vectors, top_k + 1)
        tied = [number for number, (_, near) in enumerate(ranked) if near[top_k:] and near[top_k] == near[top_k - 1]]
        if tied:
            for number, again in zip(tied, self._nearest(vectors[tied], top_k + TIES), strict=True):
                ranked[number] = again
        return [self._hits(found, self._passages) for found in ranked]

    def _search_selections(
        self, vectors: Vectors, selections: list[tuple[Selection, list[int]]]
    ) -> Iterable[tuple[int, list[Hit]]]:
        groups = [(selection.rows, numbers) for selection, numbers in selections]
        candidates = nearest(self._passages, vectors, groups, self._settings.top_k + TIES)
        for selection, numbers in selections:
            for number in numbers:
                ranked = self._rank(vectors[number], candidates[number], selection.chunk_id)
                yield number, self._hits(ranked, selection)

    def _nearest(self, vectors: Vectors, count: int) -> list[Ranked]:
        """Rows near to each question and their similarities, best first."""
        candidates = self._collection.nearest(vectors, count, self._settings.batch_size)
        found = [self._passages.find(row_ids) for row_ids in candidates]
        return [
            self._rank(vector, rows[rows >= 0], self._passages.chunk_id)
            for vector, rows in zip(vectors, found, strict=True)
        ]

    def _rank(self, vector: Vectors, rows: Numbers, name: Callable[[int], str]) -> Ranked:
        near = np.round(self._passages.vectors(rows) @ vector, DECIMALS)
        ranked = sorted(zip((-near).tolist(), map(name, rows.tolist()), rows.tolist(), strict=True))
        return [row for _, _, row in ranked], [-distance for distance, _, _ in ranked]

    def _hits(self, ranked: Ranked, of: Passages | Selection) -> list[Hit]:
        least, top_k = self._settings.min_score, self._settings.top_k
        best = list(zip(*ranked, strict=True))[:top_k]
        kept = [(row, score) for row, score in best if least is None or score >= least]
        return [Hit(of.passage(row), score, score) for row, score in kept]
