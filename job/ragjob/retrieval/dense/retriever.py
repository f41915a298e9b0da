"""Candidates from a Chroma collection, ranked by the vectors of the index."""

import numpy as np

from ragjob.ledger.passages import Passages
from ragjob.retrieval.base import Hit, Vectors
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.settings import Retrieval

DECIMALS = 5  # to which similarities are compared; passages of equal ones are in the order of their ids
TIES = 4  # candidates beyond top_k where the last ones are of equal similarity


class DenseRetriever:
    """Takes candidates from one Chroma collection, and ranks them by the vectors of the index."""

    def __init__(self, collection: Collection, passages: Passages, settings: Retrieval) -> None:
        self._collection = collection
        self._passages = passages
        self._settings = settings

    def search(self, questions: list[str], vectors: Vectors) -> list[list[Hit]]:
        top_k = self._settings.top_k
        ranked = self._nearest(vectors, top_k + 1)
        tied = [number for number, (_, near) in enumerate(ranked) if near[top_k:] and near[top_k] == near[top_k - 1]]
        if tied:
            for number, again in zip(tied, self._nearest(vectors[tied], top_k + TIES), strict=True):
                ranked[number] = again
        return [self._hits(rows[:top_k], near[:top_k]) for rows, near in ranked]

    def _nearest(self, vectors: Vectors, count: int) -> list[tuple[list[int], list[float]]]:
        """Rows near to each question and their similarities, best first."""
        candidates = self._collection.nearest(vectors, count, self._settings.batch_size)
        return [self._rank(vector, ids) for vector, ids in zip(vectors, candidates, strict=True)]

    def _rank(self, vector: Vectors, row_ids: list[str]) -> tuple[list[int], list[float]]:
        rows = self._passages.find(row_ids)
        rows = rows[rows >= 0]
        near = np.round(self._passages.vectors(rows) @ vector, DECIMALS)
        ranked = sorted(zip((-near).tolist(), map(self._passages.chunk_id, rows.tolist()), rows.tolist(), strict=True))
        return [row for _, _, row in ranked], [-distance for distance, _, _ in ranked]

    def _hits(self, rows: list[int], near: list[float]) -> list[Hit]:
        least = self._settings.min_score
        kept = [(row, score) for row, score in zip(rows, near, strict=True) if least is None or score >= least]
        return [Hit(self._passages.passage(row), score, score) for row, score in kept]
